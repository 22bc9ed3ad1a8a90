/* The actions of every video, what was done to them, and which of them are shown. */

// Colours of the style sheet, which people with any colour vision tell apart; further classes begin again.
const NUM_COLOURS = 8;
const MATCH_TIOU = 0.5;
const MOST_UNDO = 500;

// Small scores keep two digits, or they would read as none.
const scoreText = (score) => (score >= 0.01 || score <= 0 ? score.toFixed(3) : score.toPrecision(2));
const toMilliseconds = (seconds) => Math.round(seconds * 1000) / 1000;

/** Whether an action goes into the saved annotations. */
const isKept = (action) =>
  action.status !== 'deleted' && (action.origin !== 'detection' || action.status !== 'open');

/** What was done to an action, in one word. */
function stateOf(action) {
  if (action.origin === 'truth') return action.status === 'edited' ? 'edited' : 'ground truth';
  if (action.origin === 'added') return 'added';
  return action.status === 'open' ? 'detected' : action.status;
}

/** Intersection over union of two actions in time. */
function tiou(a, b) {
  const shared = Math.min(a.end, b.end) - Math.max(a.start, b.start);
  return shared <= 0 ? 0 : shared / (Math.max(a.end, b.end) - Math.min(a.start, b.start));
}

/** Actions are never changed but replaced, so that undoing is to put an old list back. */
class Store {
  constructor(data) {
    this.data = data;
    this.labels = data.labels;
    this.videos = data.videos.map((video, number) => this.newVideo(video, number));
    this.current = 0;
    this.selected = null; // key of an action
    this.hidden = new Set(); // labels that the filter leaves out
    this.scale = 0; // -1 shows everything, 0 what passes the thresholds, 1 hardly anything
    this.thresholds = [...data.thresholds];
    this.newLabel = 0;
    this.unsaved = false;
    this.past = [];
    this.future = [];
    this.version = 0;
    this.listeners = [];
    this.highest = this.labels.map((_, label) => this.thresholds[label] || 1e-6);
    for (const video of this.videos) {
      for (const action of video.actions) {
        if (action.score !== null) this.highest[action.label] = Math.max(this.highest[action.label], action.score);
      }
    }
  }

  newVideo(video, number) {
    const actions = video.detections.map(([start, end, label, score], index) => (
      { key: `d${index}`, index, start, end, label, score, origin: 'detection', status: 'open' }));
    for (const [index, [start, end, label]] of (video.truth || []).entries()) {
      actions.push({ key: `t${index}`, index, start, end, label, score: null, origin: 'truth', status: 'open' });
    }
    return { ...video, number, actions, hasTruth: video.truth !== null, done: false, nextKey: 0 };
  }

  get video() { return this.videos[this.current]; }

  get selection() { return this.find(this.selected); }

  get frame() { return 1 / (this.video.fps || 25); }

  find(key) { return this.video.actions.find((action) => action.key === key && action.status !== 'deleted') || null; }

  onChange(listener) { this.listeners.push(listener); }

  changed() {
    this.version += 1;
    for (const listener of this.listeners) listener();
  }

  /** Score from which on detections of a class are shown. */
  threshold(label) {
    const base = this.thresholds[label];
    // Past the highest score by a hair, so that at the slider's end nothing is left.
    const top = Math.max(base, this.highest[label]) * 1.0001;
    return this.scale <= 0 ? base * (1 + this.scale) : base + (top - base) * this.scale;
  }

  isShown(action) {
    if (action.status === 'deleted' || this.hidden.has(action.label)) return false;
    return isKept(action) || action.score === null || action.score >= this.threshold(action.label);
  }

  /** Actions of the video that are shown, by time; worked out once a change. */
  shown() {
    if (this.shownAt !== this.version) {
      this.shownActions = this.video.actions.filter((action) => this.isShown(action))
        .sort((a, b) => a.start - b.start || a.end - b.end);
      this.shownAt = this.version;
    }
    return this.shownActions;
  }

  choose(number) {
    if (number < 0 || number >= this.videos.length) return;
    this.current = number;
    this.selected = null;
    this.changed();
  }

  select(key) {
    if (this.selected === key) return;
    this.selected = key;
    this.changed();
  }

  /** Put another list of actions in place of the current one; returns whether anything is another. */
  replace(actions, selected = this.selected) {
    const video = this.video;
    if (actions === video.actions) return false;
    this.past.push({ number: this.current, actions: video.actions, selected: this.selected });
    if (this.past.length > MOST_UNDO) this.past.shift();
    this.future = [];
    video.actions = actions;
    this.selected = selected;
    this.unsaved = true;
    this.changed();
    return true;
  }

  step(from, to) {
    const entry = from.pop();
    if (!entry) return false;
    const video = this.videos[entry.number];
    to.push({ number: entry.number, actions: video.actions, selected: this.selected });
    video.actions = entry.actions;
    this.current = entry.number;
    this.selected = entry.selected;
    this.unsaved = true;
    this.changed();
    return true;
  }

  undo() { return this.step(this.past, this.future); }

  redo() { return this.step(this.future, this.past); }

  /** Replace fields of one action. */
  edit(key, fields) {
    const action = this.find(key);
    if (!action) return false;
    const next = { ...action, ...fields };
    [next.start, next.end] = this.within(next.start, next.end);
    const isSame = next.start === action.start && next.end === action.end && next.label === action.label
      && next.status === action.status;
    if (isSame) return false;
    if (fields.status === undefined) next.status = 'edited';
    return this.replace(this.video.actions.map((each) => (each === action ? next : each)));
  }

  /** Keep boundaries in the video, in order, and at least a frame apart. */
  within(start, end) {
    const { duration } = this.video;
    const least = Math.min(this.frame, duration);
    const from = Math.min(Math.max(0, start), duration - least);
    return [toMilliseconds(from), toMilliseconds(Math.min(Math.max(end, from + least), Math.max(duration, from + least)))];
  }

  /** The boundary of a frame nearest to a time, where the rate is known. */
  snap(seconds) {
    const { fps } = this.video;
    return toMilliseconds(fps ? Math.round(seconds * fps) / fps : seconds);
  }

  add(start, end, label) {
    const video = this.video;
    const [from, to] = this.within(Math.min(start, end), Math.max(start, end));
    const key = `a${video.nextKey++}`;
    const action = { key, index: null, start: from, end: to, label, score: null, origin: 'added', status: 'added' };
    this.hidden.delete(label);
    this.replace([...video.actions, action], key);
    return key;
  }

  remove(key) {
    const shown = this.shown();
    const place = shown.findIndex((action) => action.key === key);
    const neighbour = shown[place + 1] || shown[place - 1];
    const action = this.find(key);
    if (!action) return false;
    return this.replace(
      this.video.actions.map((each) => (each === action ? { ...each, status: 'deleted' } : each)),
      neighbour && place >= 0 ? neighbour.key : null,
    );
  }

  accept(key) {
    const action = this.find(key);
    if (!action || isKept(action)) return false;
    return this.edit(key, { status: 'accepted' });
  }

  /** Accept all detections shown, best first, but for those of an action that is kept already; returns both counts. */
  acceptShown() {
    const kept = this.video.actions.filter(isKept);
    const open = this.shown().filter((action) => !isKept(action)).sort((a, b) => b.score - a.score);
    const accepted = new Set();
    for (const action of open) {
      if (kept.some((other) => other.label === action.label && tiou(other, action) >= MATCH_TIOU)) continue;
      kept.push(action);
      accepted.add(action);
    }
    if (accepted.size) {
      this.replace(this.video.actions.map((each) => (accepted.has(each) ? { ...each, status: 'accepted' } : each)));
    }
    return { accepted: accepted.size, repeated: open.length - accepted.size };
  }

  setDone(done) {
    this.video.done = done;
    this.unsaved = true;
    this.changed();
  }

  /** The action that starts next after, or last before, a time; the selected one gives the place where there is one. */
  neighbour(direction, seconds) {
    const shown = this.shown();
    const place = shown.findIndex((action) => action.key === this.selected);
    if (place >= 0) return shown[place + direction] || null;
    if (direction > 0) return shown.find((action) => action.start >= seconds - 0.0005) || null;
    return shown.filter((action) => action.start < seconds).pop() || null;
  }
}
