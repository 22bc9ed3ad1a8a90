/* The video, or a clock in its place where the file is missing. */

class Player {
  constructor(store, say) {
    this.store = store;
    this.say = say;
    this.element = document.getElementById('video');
    this.missing = document.getElementById('missing');
    this.missingText = document.getElementById('missing-text');
    this.time = 0;
    this.isThere = false;
    this.loops = false;
    this.until = null; // where playing a single action ends
    this.attached = new Map(); // files that were chosen by hand, by the video's number
    this.listeners = [];
    this.opened = -1;
    const { element } = this;
    element.addEventListener('loadedmetadata', () => this.ready());
    element.addEventListener('error', () => { if (element.getAttribute('src')) this.failed(); });
    for (const name of ['timeupdate', 'seeked', 'play', 'pause', 'ended']) {
      element.addEventListener(name, () => this.follow());
    }
    element.addEventListener('play', () => this.tick());
    element.addEventListener('click', () => this.toggle());
    document.getElementById('attach').addEventListener('change', (event) => {
      const [file] = event.target.files;
      event.target.value = '';
      if (file) this.attach(file);
    });
  }

  onTime(listener) { this.listeners.push(listener); }

  get isPlaying() { return this.isThere && !this.element.paused && !this.element.ended; }

  /** Open the current video of the store, unless it is open. */
  open() {
    if (this.opened === this.store.current) return;
    this.opened = this.store.current;
    this.time = 0;
    this.until = null;
    this.load(this.attached.get(this.opened) || this.store.video.url);
  }

  load(url) {
    this.isThere = false;
    this.missing.hidden = true;
    this.element.pause();
    if (url) {
      this.element.src = url;
      this.element.playbackRate = this.rate || 1;
    } else {
      this.element.removeAttribute('src');
      this.element.load();
      this.failed();
    }
    this.tell();
  }

  attach(file) {
    const before = this.attached.get(this.opened);
    if (before) URL.revokeObjectURL(before);
    const url = URL.createObjectURL(file);
    this.attached.set(this.opened, url);
    this.load(url);
  }

  ready() {
    this.isThere = true;
    this.missing.hidden = true;
    this.element.playbackRate = this.rate || 1;
    if (this.time) this.element.currentTime = this.time;
    const { duration } = this.store.video;
    const found = this.element.duration;
    if (this.attached.has(this.opened) && Math.abs(found - duration) > Math.max(1, 0.02 * duration)) {
      this.say(`This file lasts ${found.toFixed(1)} s, the video of the timeline ${duration.toFixed(1)} s. It may be another one.`);
    }
    this.tell();
  }

  failed() {
    this.isThere = false;
    const { video } = this.store;
    const where = video.file ? ` (${video.file})` : '';
    const isAttached = this.attached.delete(this.opened);
    this.missingText.textContent = isAttached
      ? 'The browser cannot play that file. Choose another one, or a copy in H.264 or VP9 made with "etad transcode". The timeline works without.'
      : `The video${where} is not there, or in a form that the browser cannot play. The timeline works without it; to watch, choose the file.`;
    this.missing.hidden = false;
    this.tell();
  }

  setRate(rate) {
    this.rate = rate;
    this.element.playbackRate = rate;
  }

  seek(seconds, { keepsUntil = false } = {}) {
    if (!keepsUntil) this.until = null;
    this.time = Math.min(Math.max(0, seconds), this.store.video.duration);
    if (this.isThere) this.element.currentTime = this.time;
    this.tell();
  }

  step(frames) {
    this.element.pause();
    const { frame } = this.store;
    this.seek((Math.round(this.time / frame) + frames) * frame);
  }

  toggle() {
    if (!this.isThere) return;
    if (this.isPlaying) {
      this.element.pause();
      return;
    }
    if (this.time >= this.store.video.duration - 0.01) this.seek(0);
    this.start();
  }

  /** Play one action from its start to its end. */
  playAction(action) {
    this.seek(action.start);
    this.until = action.end;
    this.start();
  }

  start() {
    const played = this.element.play();
    if (played) played.catch(() => this.tell()); // paused or replaced meanwhile
  }

  follow() {
    if (!this.isThere || this.element.seeking) return;
    this.time = this.element.currentTime;
    const action = this.loops ? this.store.selection : null;
    if (action && this.isPlaying && (this.time >= action.end || this.time < action.start - 0.5)) {
      this.seek(action.start);
    } else if (this.until !== null && this.time >= this.until) {
      this.element.pause();
      this.until = null;
    }
    this.tell();
  }

  tick() {
    if (!this.isPlaying) return;
    this.follow();
    requestAnimationFrame(() => this.tick());
  }

  tell() { for (const listener of this.listeners) listener(); }
}
