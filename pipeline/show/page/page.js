/* The page: what commands do, and who is told when something has changed. */

class Page {
  constructor(data) {
    this.store = new Store(data);
    this.draft = new Draft(this.store, (text) => this.say(text));
    this.player = new Player(this.store, (text) => this.say(text));
    this.timeline = new Timeline(this.store, this.player);
    this.pointer = new Pointer(this.store, this.player, this.timeline, (text) => this.announce(text));
    this.panel = new Panel(this.store, this.player, this);
    this.mark = null;
    fillChoice(byId('video-choice'), data.videos.map((video) => video.id));
    this.keys = new Keys(this);
    this.listen();
    this.showNotes();
    this.store.onChange(() => this.update());
    this.player.onTime(() => this.updateTime());
    this.restore();
    this.store.changed();
  }

  listen() {
    const { store, player, timeline } = this;
    const clicks = {
      play: () => player.toggle(),
      'step-back': () => player.step(-1),
      'step-forward': () => player.step(1),
      'previous-action': () => this.jump(-1),
      'next-action': () => this.jump(1),
      'previous-video': () => store.choose(store.current - 1),
      'next-video': () => store.choose(store.current + 1),
      loop: () => this.toggleLoop(),
      mute: () => this.toggleMute(),
      undo: () => this.undo(),
      redo: () => this.redo(),
      add: () => this.toggleAdd(),
      'accept-all': () => this.acceptAll(),
      'zoom-in': () => timeline.zoom(1 / 1.5),
      'zoom-out': () => timeline.zoom(1.5),
      'zoom-fit': () => timeline.fit(),
      save: () => this.save(),
      theme: () => this.toggleTheme(),
      'help-button': () => this.help(),
      'message-close': () => { byId('message').hidden = true; },
    };
    for (const [id, run] of Object.entries(clicks)) byId(id).addEventListener('click', run);
    byId('video-choice').addEventListener('change', (event) => store.choose(Number(event.target.value)));
    byId('speed').addEventListener('change', (event) => player.setRate(Number(event.target.value)));
    byId('load').addEventListener('change', (event) => this.load(event.target));
    this.freeKeys();
    window.addEventListener('beforeunload', (event) => {
      if (!store.unsaved) return;
      this.draft.writeNow();
      event.preventDefault();
    });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.redraw());
  }

  /** After a click or a choice by mouse or touch, keys are the page's again: Space plays, and N is no letter to a list. */
  freeKeys() {
    let byPointer = false;
    const free = (event) => {
      const control = event.target.closest('button, select, input[type=checkbox], input[type=range]');
      if (byPointer && control && !control.closest('dialog')) control.blur();
    };
    document.addEventListener('pointerdown', () => { byPointer = true; }, true);
    document.addEventListener('keydown', () => { byPointer = false; }, true);
    document.addEventListener('change', free);
    document.addEventListener('click', (event) => { if (event.target.closest('button')) free(event); });
  }

  // ---- what is told to whom

  update() {
    const { store } = this;
    this.player.open();
    this.timeline.update();
    this.panel.update();
    byId('video-choice').value = String(store.current);
    byId('previous-video').disabled = store.current === 0;
    byId('next-video').disabled = store.current === store.videos.length - 1;
    byId('undo').disabled = !store.past.length;
    byId('redo').disabled = !store.future.length;
    byId('save-state').textContent = store.unsaved ? 'Unsaved changes' : '';
    byId('save-state').dataset.unsaved = String(store.unsaved);
    this.draft.write();
    this.updateTime();
  }

  updateTime() {
    const { player, store, timeline } = this;
    byId('clock').textContent = `${clockText(player.time, 3)} / ${clockText(store.video.duration, 1)}`;
    byId('play').textContent = player.isPlaying ? '❚❚' : '▶';
    byId('play').setAttribute('aria-label', player.isPlaying ? 'Pause' : 'Play');
    byId('play').disabled = !player.isThere;
    if (player.isPlaying) timeline.reveal(player.time);
    timeline.drawPlayhead();
  }

  /** Say something on the page, with a way to act on it where there is one. */
  say(text, name = '', run = null) {
    byId('message-text').textContent = text;
    const button = byId('message-action');
    button.hidden = !run;
    button.textContent = name;
    button.onclick = () => {
      byId('message').hidden = true;
      run();
    };
    byId('message').hidden = false;
  }

  announce(text) { byId('announce').textContent = text; }

  showNotes() {
    const { notes } = this.store.data;
    byId('notes').hidden = !notes.length;
    byId('notes-list').replaceChildren(...notes.map((note) => make('li', '', note)));
  }

  // ---- moving about

  jump(direction) {
    const { store, player } = this;
    const action = store.neighbour(direction, player.time);
    if (action) this.goTo(action);
    else this.announce(direction > 0 ? 'No later action.' : 'No earlier action.');
  }

  goTo(action) {
    if (!action) return;
    this.store.select(action.key);
    this.player.seek(action.start);
    this.timeline.revealSelection();
    this.announce(this.pointer.describe(action));
  }

  arrow(event) {
    const direction = event.key === 'ArrowLeft' ? -1 : 1;
    if (event.shiftKey) this.player.seek(this.player.time + direction);
    else this.player.step(direction);
    this.timeline.reveal(this.player.time);
  }

  // ---- correcting

  nudge(side, frames) {
    const { store, player } = this;
    const action = store.selection;
    if (!action) return;
    const moved = store.snap(action[side] + frames * store.frame);
    const limit = side === 'start' ? Math.min(moved, action.end - store.frame) : Math.max(moved, action.start + store.frame);
    if (store.edit(action.key, { [side]: limit })) {
      player.seek(store.selection[side]);
      this.announce(`${side === 'start' ? 'Starts' : 'Ends'} at ${store.selection[side].toFixed(3)} s.`);
    }
  }

  setHere(side) {
    const { store, player } = this;
    const action = store.selection;
    if (!action) return;
    const isInOrder = side === 'start' ? player.time < action.end : player.time > action.start;
    if (isInOrder) store.edit(action.key, { [side]: store.snap(player.time) });
    else this.say(side === 'start' ? 'The playhead is behind the end of the action.' : 'The playhead is before the start of the action.');
  }

  markIn() {
    this.mark = { video: this.store.current, seconds: this.store.snap(this.player.time) };
    this.say(`A new ${this.store.labels[this.store.newLabel] ?? 'action'} starts at ${clockText(this.mark.seconds, 3)}. Press O where it ends.`);
  }

  markOut() {
    const { store, player } = this;
    if (!this.mark || this.mark.video !== store.current) {
      this.say('Press I where the action starts first.');
      return;
    }
    if (!store.labels.length) return;
    store.add(this.mark.seconds, store.snap(player.time), store.newLabel);
    this.mark = null;
    byId('message').hidden = true;
    this.announce('Added.');
  }

  relabel(label) {
    const { store } = this;
    if (!store.selection || !(label in store.labels)) return;
    store.hidden.delete(label);
    if (store.edit(store.selected, { label })) this.announce(`Now ${store.labels[label]}.`);
  }

  accept() {
    if (this.store.selection && this.store.accept(this.store.selected)) this.announce('Accepted.');
  }

  acceptAll() {
    const { accepted, repeated } = this.store.acceptShown();
    const more = repeated ? ` ${repeated} left out: they repeat an action of the same class that is kept already.` : '';
    this.say(`Accepted ${accepted} of the detections shown.${more}`, 'Undo', accepted ? () => this.undo() : null);
  }

  remove() {
    const { store } = this;
    const action = store.selection;
    if (!action || !store.remove(action.key)) return;
    this.say(`Deleted ${store.labels[action.label]} at ${clockText(action.start, 1)}.`, 'Undo', () => this.undo());
  }

  undo() { if (this.store.undo()) this.announce('Undone.'); }

  redo() { if (this.store.redo()) this.announce('Done again.'); }

  escape() {
    if (this.pointer.addMode) this.toggleAdd();
    this.store.select(null);
    byId('message').hidden = true;
  }

  // ---- files

  save() {
    const { store } = this;
    const file = toFile(store);
    const videos = Object.values(file.database);
    if (!videos.length) {
      this.say('There is nothing to save yet: accept or add an action, or tick "This video is reviewed".');
      return;
    }
    const name = store.data.title.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 60);
    download(`${name || 'review'}-annotations.json`, `${JSON.stringify(file, null, 1)}\n`);
    store.unsaved = false;
    this.draft.forget();
    this.update();
    const actions = videos.reduce((sum, video) => sum + video.annotations.length, 0);
    this.say(`Saved ${actions} actions of ${videos.length} of ${store.videos.length} videos.`);
  }

  async load(input) {
    const [file] = input.files;
    input.value = '';
    if (!file) return;
    try {
      this.take(JSON.parse(await file.text()), file.name);
    } catch (error) {
      this.say(`${file.name} cannot be loaded: ${error.message}`);
    }
  }

  take(content, name) {
    const { store } = this;
    if (store.unsaved && !window.confirm('Loading replaces changes that are not saved. Go on?')) return;
    const { videos, actions, unknown } = fromFile(store, content);
    store.unsaved = false;
    this.draft.forget();
    this.update();
    const more = unknown.length ? ` ${unknown.length} of its videos are not on this page, and are not in what is saved here: ${unknown.slice(0, 3).join(', ')}.` : '';
    this.say(`Loaded ${actions} actions of ${videos} videos from ${name}.${more}`);
  }

  /** Take up what an earlier visit left unsaved. */
  restore() {
    const kept = this.draft.read();
    if (!kept) return;
    try {
      fromFile(this.store, kept);
    } catch {
      this.draft.forget();
      return;
    }
    this.store.unsaved = true;
    this.say('Unsaved changes of an earlier visit are back.', 'Start over', () => this.startOver());
  }

  startOver() {
    const { store } = this;
    for (const video of store.videos) Object.assign(video, store.newVideo(store.data.videos[video.number], video.number));
    store.past = [];
    store.future = [];
    store.selected = null;
    store.unsaved = false;
    this.draft.forget();
    store.changed();
  }

  // ---- switches

  toggleLoop() {
    this.player.loops = !this.player.loops;
    byId('loop').setAttribute('aria-pressed', String(this.player.loops));
  }

  toggleMute() {
    const { element } = this.player;
    element.muted = !element.muted;
    byId('mute').setAttribute('aria-pressed', String(element.muted));
  }

  toggleAdd() {
    this.pointer.addMode = !this.pointer.addMode;
    byId('add').setAttribute('aria-pressed', String(this.pointer.addMode));
    this.timeline.lanesCanvas.dataset.adding = String(this.pointer.addMode);
  }

  toggleTheme() {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
    root.dataset.theme = isDark ? 'light' : 'dark';
    this.redraw();
  }

  redraw() {
    this.timeline.readTheme();
    this.timeline.draw();
  }

  help() { byId('help').showModal(); }
}

const content = JSON.parse(byId('data').textContent);
byId('title').textContent = content.title;
document.title = content.title;
if (content.videos.length) window.etadReview = new Page(content);
else byId('title').textContent = `${content.title}: no videos`;
