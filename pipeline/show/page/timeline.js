/* The timeline: one lane a class, on a canvas; above it the ruler.

   Only what is in view is drawn, so that thousands of actions scroll as ten do. */

const ROW = 22;
const TRUTH_ROW = 12;
const LANE_PAD = 4;
const MOST_ROWS = 4;
const EMPTY_LANES_UP_TO = 12;
const NARROW = 560;
const EDGE = 6;

class Timeline {
  constructor(store, player) {
    this.store = store;
    this.player = player;
    this.lanesCanvas = document.getElementById('lanes');
    this.ruler = new Ruler(this, store);
    this.scroller = document.getElementById('lanes-scroll');
    this.space = document.getElementById('lanes-space');
    this.playhead = document.getElementById('playhead');
    this.empty = document.getElementById('no-lanes');
    this.view = { from: 0, to: store.video.duration };
    this.preview = null; // an action as a drag has it, before it is let go
    this.hover = null;
    this.lanes = [];
    this.scroller.addEventListener('scroll', () => this.draw());
    new ResizeObserver(() => this.resize()).observe(this.scroller);
    this.measure();
    this.readTheme();
  }

  /** Colours of the theme as the browser has worked them out: a canvas does not know variables. */
  readTheme() {
    const probe = document.createElement('span');
    document.body.append(probe);
    const colour = (name) => {
      probe.style.color = `var(--${name})`;
      return getComputedStyle(probe).color;
    };
    const names = ['ink', 'quiet', 'line', 'lane', 'accent', 'truth', 'sunken'];
    this.theme = Object.fromEntries(names.map((name) => [name, colour(name)]));
    this.classColours = Array.from({ length: NUM_COLOURS }, (_, number) => colour(`class-${number}`));
    probe.remove();
  }

  colour(label) { return this.classColours[label % NUM_COLOURS]; }

  // ---- seconds and pixels

  /** Measured when the size changes: asking the browser for each of thousands of actions takes longer than to draw. */
  measure() {
    this.width = this.scroller.clientWidth;
    this.gutter = this.width < NARROW ? 8 : Math.min(150, Math.round(this.width * 0.16));
  }

  get span() { return this.view.to - this.view.from; }

  xOf(seconds) { return this.gutter + ((seconds - this.view.from) / this.span) * (this.width - this.gutter - 8); }

  secondsAt(x) {
    const seconds = this.view.from + ((x - this.gutter) / (this.width - this.gutter - 8)) * this.span;
    return Math.min(Math.max(0, seconds), this.store.video.duration);
  }

  /** Show a stretch of the video, as much of it as there is. */
  show(from, to) {
    const { duration } = this.store.video;
    const span = Math.min(Math.max(to - from, Math.min(duration, 10 * this.store.frame)), duration);
    const start = Math.min(Math.max(0, from), duration - span);
    this.view = { from: start, to: start + span };
    this.draw();
  }

  zoom(factor, around = this.player.time) {
    const at = Math.min(Math.max(around, this.view.from), this.view.to);
    const span = Math.min(this.span * factor, this.store.video.duration);
    this.show(at - ((at - this.view.from) / this.span) * span, at - ((at - this.view.from) / this.span) * span + span);
  }

  pan(seconds) { this.show(this.view.from + seconds, this.view.to + seconds); }

  fit() { this.show(0, this.store.video.duration); }

  /** Scroll to a time that is out of view; while playing, page by page. */
  reveal(from, to = from) {
    if (from >= this.view.from && to <= this.view.to) return;
    const margin = 0.1 * this.span;
    if (to - from > this.span - 2 * margin) this.show(from - margin, from - margin + this.span);
    else if (from < this.view.from) this.show(from - margin, from - margin + this.span);
    else this.show(to + margin - this.span, to + margin);
    if (this.player.isPlaying) this.show(from - margin, from - margin + this.span);
  }

  // ---- layout

  /** Put shown actions into lanes; those of a lane that overlap, into rows, the best on top. */
  layout() {
    const { store } = this;
    const byLabel = new Map();
    for (const action of store.shown()) {
      if (!byLabel.has(action.label)) byLabel.set(action.label, []);
      byLabel.get(action.label).push(action);
    }
    const isNarrow = this.width < NARROW;
    const head = isNarrow ? 16 : 0;
    this.lanes = [];
    let top = 0;
    for (let label = 0; label < store.labels.length; label += 1) {
      const actions = byLabel.get(label) || [];
      const isWanted = !store.hidden.has(label)
        && (actions.length || store.labels.length <= EMPTY_LANES_UP_TO || label === store.newLabel);
      if (!isWanted) continue;
      const truth = actions.filter((action) => action.origin === 'truth');
      const others = actions.filter((action) => action.origin !== 'truth');
      const rows = this.rows(others);
      const height = head + LANE_PAD + rows.count * ROW + (store.video.hasTruth ? TRUTH_ROW + 2 : 0) + LANE_PAD;
      const first = top + head + LANE_PAD;
      const boxes = others.map((action) => ({ action, top: first + rows.of.get(action) * ROW, height: ROW - 3 }));
      const under = first + rows.count * ROW;
      boxes.push(...truth.map((action) => ({ action, top: under, height: TRUTH_ROW })));
      this.lanes.push({ label, top, height, head, boxes });
      top += height;
    }
    this.total = top;
    this.boxes = new Map(this.lanes.flatMap((lane) => lane.boxes.map((box) => [box.action.key, box])));
  }

  rows(actions) {
    const of = new Map();
    const ends = [];
    for (const action of actions) { // by their starts
      let row = ends.findIndex((end) => end <= action.start + 0.0005);
      if (row < 0) row = ends.length < MOST_ROWS ? ends.length : ends.indexOf(Math.min(...ends));
      ends[row] = Math.max(ends[row] || 0, action.end);
      of.set(action, row);
    }
    return { of, count: Math.max(1, ends.length) };
  }

  resize() {
    this.measure();
    this.laidOut = -1;
    this.draw();
  }

  update() {
    if (this.videoNumber !== this.store.current) {
      this.videoNumber = this.store.current;
      this.view = { from: 0, to: this.store.video.duration };
      this.scroller.scrollTop = 0;
    }
    this.draw();
  }

  // ---- drawing

  /** Draw once before the browser shows the next picture. */
  draw() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.drawNow();
    });
  }

  drawNow() {
    if (this.laidOut !== this.store.version) {
      this.laidOut = this.store.version;
      this.layout();
      this.space.style.height = `${this.total}px`;
      this.scroller.style.height = `${this.total}px`; // up to what the style allows
      this.measure(); // a scroll bar may have come or gone
      this.empty.hidden = this.lanes.length > 0 && this.store.shown().length > 0;
    }
    this.drawLanes();
    this.ruler.draw();
    this.drawPlayhead();
  }

  drawLanes() {
    const height = this.scroller.clientHeight;
    const context = prepared(this.lanesCanvas, this.width, height);
    const offset = this.scroller.scrollTop;
    context.translate(0, -offset);
    for (const [number, lane] of this.lanes.entries()) {
      if (lane.top + lane.height < offset || lane.top > offset + height) continue;
      this.drawLane(context, lane, number);
    }
  }

  drawLane(context, lane, number) {
    const { theme, store, gutter, width } = this;
    if (number % 2 === 0) {
      context.fillStyle = theme.lane;
      context.fillRect(0, lane.top, width, lane.height);
    }
    context.fillStyle = theme.line;
    context.fillRect(0, lane.top + lane.height - 1, width, 1);
    context.save();
    context.beginPath();
    context.rect(gutter - 4, lane.top, width - gutter + 4, lane.height);
    context.clip();
    const boxes = lane.boxes.filter(({ action }) => action.end >= this.view.from && action.start <= this.view.to);
    // What matters most is drawn last: the better score, what is kept, the selected one.
    const rank = ({ action }) => (action.key === store.selected ? 9 : isKept(action) ? 2 : action.score);
    for (const box of boxes.sort((a, b) => rank(a) - rank(b))) this.drawBox(context, box);
    if (this.preview && this.preview.key === null && this.preview.label === lane.label) {
      this.drawBox(context, { action: this.preview, top: lane.top + lane.head + LANE_PAD, height: ROW - 3 });
    }
    context.restore();
    this.drawLaneName(context, lane);
  }

  drawLaneName(context, lane) {
    const { theme, store, gutter } = this;
    const isNarrow = lane.head > 0;
    const middle = isNarrow ? lane.top + 11 : lane.top + LANE_PAD + ROW / 2 - 1;
    context.fillStyle = this.colour(lane.label);
    context.fillRect(8, middle - 5, 10, 10);
    context.fillStyle = theme.ink;
    context.font = '12px system-ui, sans-serif';
    const room = isNarrow ? this.width - 40 : gutter - 34;
    context.fillText(shortened(context, store.labels[lane.label], room), 24, middle);
    if (store.video.hasTruth && !isNarrow) {
      context.fillStyle = theme.quiet;
      context.font = '11px system-ui, sans-serif';
      context.fillText('truth', 24, lane.top + lane.height - LANE_PAD - TRUTH_ROW / 2 - 2);
    }
  }

  drawBox(context, box) {
    const { store, theme } = this;
    const action = this.preview && this.preview.key === box.action.key ? this.preview : box.action;
    const left = this.xOf(action.start);
    const width = Math.max(2, this.xOf(action.end) - left);
    const isSelected = action.key !== null && action.key === store.selected;
    const isTruth = action.origin === 'truth';
    const colour = this.colour(action.label);
    const isOpen = !isTruth && !isKept(action) && action.key !== null;
    context.fillStyle = isTruth ? theme.truth : colour;
    context.globalAlpha = isTruth ? 1 : isOpen ? 0.16 + 0.74 * this.strength(action) : 0.95;
    if (width < 5 && !isSelected) { // thousands of them in view, and no room for an outline
      context.fillRect(left, box.top, width, box.height);
      context.globalAlpha = 1;
      return;
    }
    context.beginPath();
    context.roundRect(left, box.top, width, box.height, Math.min(4, width / 2));
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = isSelected ? 2.5 : 1;
    context.strokeStyle = isSelected ? theme.ink : isTruth ? theme.quiet : colour;
    if (isOpen) context.setLineDash([4, 3]);
    context.stroke();
    context.setLineDash([]);
    if (!isTruth) this.drawMark(context, action, left, width, box);
    if (isSelected && width > 8) {
      context.fillStyle = theme.ink;
      context.fillRect(left + 2, box.top + 3, 2, box.height - 6);
      context.fillRect(left + width - 4, box.top + 3, 2, box.height - 6);
    }
  }

  /** What was done to an action, as a sign in its box: a tick, a pencil, a plus. */
  drawMark(context, action, left, width, box) {
    const mark = { accepted: '✓', edited: '✎', added: '+' }[action.status];
    if (!mark || width < 16) return;
    context.font = 'bold 12px system-ui, sans-serif';
    context.fillStyle = readableOn(this.colour(action.label));
    context.fillText(mark, Math.max(left, this.gutter) + 6, box.top + box.height / 2 + 0.5);
  }

  strength(action) {
    return action.score === null ? 1 : Math.min(1, Math.max(0, action.score / this.store.highest[action.label]));
  }

  drawPlayhead() {
    const x = this.xOf(this.player.time);
    this.playhead.hidden = x < this.gutter - 1 || x > this.width - 7;
    this.playhead.style.transform = `translateX(${x}px)`;
  }

  // ---- what lies where

  /** The action and its part (start, end, body) at a place of the canvas; the one on top. */
  hit(x, y, reach = EDGE) {
    const lane = this.laneAt(y);
    if (!lane || x < this.gutter - reach) return null;
    let found = null;
    for (const { action, top, height } of lane.boxes) {
      if (y < top - 1 || y > top + height + 2) continue;
      const [left, right] = [this.xOf(action.start), this.xOf(action.end)];
      const isSelected = action.key === this.store.selected;
      // Boundaries reach outwards, and inwards by at most a third, so that a short action keeps its middle.
      const inner = Math.min(reach, (right - left) / 3);
      const outer = isSelected ? reach : reach / 2;
      if (x < left - outer || x > right + outer) continue;
      const part = x <= left + inner ? 'start' : x >= right - inner ? 'end' : 'body';
      const score = isSelected ? 9 : isKept(action) ? 2 : action.score;
      if (!found || score >= found.score) found = { action, part, score };
    }
    return found;
  }

  laneAt(y) { return this.lanes.find((lane) => y >= lane.top && y < lane.top + lane.height) || null; }

  /** Where an action is on the canvas, in pixels from its corner. */
  boxOf(key) {
    const box = this.boxes.get(key);
    if (!box) return null;
    const left = this.xOf(box.action.start);
    return { left, right: this.xOf(box.action.end), top: box.top - this.scroller.scrollTop, height: box.height };
  }

  /** Scroll to the selected action, in time and among the lanes. */
  revealSelection() {
    const { selection } = this.store;
    if (!selection) return;
    this.reveal(selection.start, selection.end);
    this.drawNow();
    const box = this.boxes.get(selection.key);
    if (!box) return;
    const { scrollTop, clientHeight } = this.scroller;
    if (box.top < scrollTop) this.scroller.scrollTop = box.top - 8;
    if (box.top + box.height > scrollTop + clientHeight) this.scroller.scrollTop = box.top + box.height + 8 - clientHeight;
  }
}

function shortened(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let cut = text;
  while (cut && context.measureText(`${cut}…`).width > room) cut = cut.slice(0, -1);
  return `${cut}…`;
}

/** Black or white, whichever is easier to read on a colour that the browser has worked out: rgb(r, g, b). */
function readableOn(colour) {
  const [red, green, blue] = colour.match(/[\d.]+/g).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? '#000000' : '#ffffff';
}
