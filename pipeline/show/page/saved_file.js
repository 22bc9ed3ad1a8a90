/* Annotations as a file, in ActivityNet's form, and back: to download, and to keep in the browser meanwhile. */

const FORMAT = 1;

/** Write what is kept; `review` tells the page, when it reads the file again, where each action came from. */
function toFile(store) {
  // Without a prototype: an id may be named like anything.
  const database = Object.create(null);
  const deletedElsewhere = Object.create(null);
  for (const video of store.videos) {
    const kept = video.actions.filter(isKept).sort((a, b) => a.start - b.start || a.end - b.end);
    const deleted = video.actions.filter((action) => action.status === 'deleted' && action.index !== null)
      .map((action) => action.key);
    // A video of which nobody has said anything must not pass for one without actions.
    if (!kept.length && !video.done && !video.hasTruth) {
      if (deleted.length) deletedElsewhere[video.id] = deleted;
      continue;
    }
    database[video.id] = {
      subset: video.subset,
      duration: toMilliseconds(video.duration),
      ...(video.fps ? { fps: video.fps } : {}),
      annotations: kept.map((action) => ({
        segment: [toMilliseconds(action.start), toMilliseconds(action.end)],
        label: store.labels[action.label],
        state: stateOf(action),
        ...(action.score === null ? {} : { score: action.score }),
        ...(action.index === null ? {} : { [action.origin]: action.index }),
      })),
      reviewed: video.done,
      deleted,
    };
  }
  return {
    version: 'ETAD review 1',
    taxonomy: [],
    database,
    review: { format: FORMAT, page: store.data.digest, title: store.data.title, deleted_elsewhere: deletedElsewhere },
  };
}

/** Take over a file; returns how many videos it told of, how many actions, and which ids this page does not show. */
function fromFile(store, file) {
  if (!file || typeof file !== 'object' || !file.database || typeof file.database !== 'object') {
    throw new Error('it has no "database" of videos. Expected annotations in ActivityNet\'s form.');
  }
  const isOfThisPage = Boolean(file.review && file.review.page === store.data.digest);
  const byId = new Map(store.videos.map((video) => [video.id, video]));
  const labels = [...store.labels];
  const read = [];
  const unknown = [];
  for (const [id, entry] of Object.entries(file.database)) {
    const video = byId.get(id);
    if (!video) unknown.push(id);
    else read.push([video, readEntry(store, video, id, entry, labels, isOfThisPage)]);
  }
  if (isOfThisPage) {
    for (const [id, keys] of Object.entries(file.review.deleted_elsewhere || {})) {
      const video = byId.get(id);
      if (!video || !Array.isArray(keys)) continue;
      const start = fresh(store, video);
      read.push([video, { ...start, actions: withoutKeys(start.actions, keys) }]);
    }
  }
  // Nothing is changed before everything was read.
  for (const label of labels.slice(store.labels.length)) {
    store.labels.push(label);
    store.thresholds.push(0);
    store.highest.push(1);
  }
  let actions = 0;
  for (const [video, next] of read) {
    Object.assign(video, next);
    actions += next.actions.filter(isKept).length;
  }
  store.past = [];
  store.future = [];
  store.selected = null;
  store.changed();
  return { videos: read.length, actions, unknown };
}

function fresh(store, video) {
  const { actions, nextKey, done } = store.newVideo(store.data.videos[video.number], video.number);
  return { actions, nextKey, done };
}

function withoutKeys(actions, keys) {
  const gone = new Set(keys);
  return actions.map((each) => (gone.has(each.key) ? { ...each, status: 'deleted' } : each));
}

function readEntry(store, video, id, entry, labels, isOfThisPage) {
  const items = entry && Array.isArray(entry.annotations) ? entry.annotations : null;
  if (!items) throw new Error(`video "${id}" has no list of annotations.`);
  const start = fresh(store, video);
  // A file of other detections brings actions of its own, which stand in for the ground truth that it was made with.
  let actions = isOfThisPage ? start.actions : start.actions.filter((each) => each.origin === 'detection');
  const byKey = new Map(actions.map((each, place) => [each.key, place]));
  for (const [number, item] of items.entries()) {
    const action = readAction(item, `video "${id}", annotation ${number + 1}`, labels);
    const origin = Number.isInteger(item.detection) ? `d${item.detection}` : Number.isInteger(item.truth) ? `t${item.truth}` : '';
    const place = isOfThisPage ? byKey.get(origin) : undefined;
    if (place === undefined) {
      actions.push({ ...action, key: `a${start.nextKey++}`, index: null, score: null, origin: 'added', status: 'added' });
    } else {
      const status = ['accepted', 'edited'].includes(item.state) ? item.state : 'open';
      actions[place] = { ...actions[place], ...action, status };
      byKey.delete(origin); // should another entry name it, too, that one is an action of its own
    }
  }
  if (isOfThisPage && Array.isArray(entry.deleted)) actions = withoutKeys(actions, entry.deleted);
  return { actions, nextKey: start.nextKey, done: entry.reviewed === true };
}

function readAction(item, where, labels) {
  const segment = item && item.segment;
  const isSegment = Array.isArray(segment) && segment.length === 2 && segment.every(Number.isFinite);
  if (!isSegment || segment[1] < segment[0]) throw new Error(`${where}: expected "segment": [start, end] in seconds.`);
  if (typeof item.label !== 'string' || !item.label) throw new Error(`${where}: expected "label": a name.`);
  let label = labels.indexOf(item.label);
  if (label < 0) label = labels.push(item.label) - 1;
  return { start: toMilliseconds(segment[0]), end: toMilliseconds(segment[1]), label };
}

/** Unsaved changes of this very page in the browser's storage, which a private window may refuse. */
class Draft {
  constructor(store, complain) {
    this.store = store;
    this.complain = complain;
    this.name = `etad-review:${store.data.digest}`;
    this.works = true;
  }

  read() {
    try {
      return JSON.parse(localStorage.getItem(this.name));
    } catch {
      return null;
    }
  }

  /** Write a moment later, once for many changes. */
  write() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.writeNow(), 250);
  }

  writeNow() {
    clearTimeout(this.timer);
    if (!this.store.unsaved) return;
    try {
      localStorage.setItem(this.name, JSON.stringify(toFile(this.store)));
    } catch {
      if (this.works) this.complain('This browser keeps no unsaved changes of the page. Save before you close it.');
      this.works = false;
    }
  }

  forget() {
    clearTimeout(this.timer);
    try {
      localStorage.removeItem(this.name);
    } catch {
      this.works = false;
    }
  }
}

/** Hand a text to the browser as a download. */
function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
