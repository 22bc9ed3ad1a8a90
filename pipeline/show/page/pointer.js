/* Mouse, pen and touch on the timeline. */

const STILL = 4; // pixels that a click may wander
const TOUCH_REACH = 14;

class Pointer {
  constructor(store, player, timeline, announce) {
    Object.assign(this, { store, player, timeline, announce });
    this.addMode = false;
    this.touches = new Map();
    this.drag = null;
    const { lanesCanvas } = timeline;
    const rulerCanvas = timeline.ruler.canvas;
    lanesCanvas.addEventListener('pointerdown', (event) => this.down(event));
    lanesCanvas.addEventListener('pointermove', (event) => this.move(event));
    lanesCanvas.addEventListener('pointerup', (event) => this.up(event));
    lanesCanvas.addEventListener('pointercancel', (event) => this.cancel(event));
    lanesCanvas.addEventListener('dblclick', (event) => this.doubleClick(event));
    rulerCanvas.addEventListener('pointerdown', (event) => this.rulerDown(event));
    rulerCanvas.addEventListener('pointermove', (event) => this.rulerMove(event));
    rulerCanvas.addEventListener('pointerup', () => { this.ruling = null; });
    rulerCanvas.addEventListener('pointercancel', () => { this.ruling = null; });
    for (const canvas of [lanesCanvas, rulerCanvas]) {
      canvas.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    }
  }

  /** A place within a canvas; among the lanes, with what is scrolled away. */
  place(event) {
    const { lanesCanvas, scroller } = this.timeline;
    const box = lanesCanvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top + scroller.scrollTop };
  }

  down(event) {
    if (event.button !== 0) return;
    const { timeline } = this;
    timeline.lanesCanvas.focus({ preventScroll: true });
    timeline.lanesCanvas.setPointerCapture(event.pointerId);
    const { x, y } = this.place(event);
    this.touches.set(event.pointerId, { x, y });
    if (this.touches.size === 2) {
      this.beginPinch();
      return;
    }
    const isTouch = event.pointerType === 'touch';
    const hit = timeline.hit(x, y, isTouch ? TOUCH_REACH : EDGE);
    const lane = timeline.laneAt(y);
    this.drag = { mode: this.modeOf(hit, lane, isTouch), hit, lane, x, y, isTouch, moved: false, view: { ...timeline.view } };
  }

  modeOf(hit, lane, isTouch) {
    if (this.addMode && lane) return 'add';
    if (hit && hit.part !== 'body') return isTouch && hit.action.key !== this.store.selected ? 'pan' : hit.part;
    if (hit && hit.action.key === this.store.selected) return 'move';
    if (hit || isTouch || !lane) return isTouch ? 'pan' : 'none';
    return 'add';
  }

  move(event) {
    const { timeline, drag } = this;
    const { x, y } = this.place(event);
    if (this.touches.has(event.pointerId)) this.touches.set(event.pointerId, { x, y });
    if (this.pinch) {
      this.movePinch();
      return;
    }
    if (!drag) {
      const hit = timeline.hit(x, y);
      timeline.lanesCanvas.style.cursor = this.addMode ? 'crosshair' : !hit ? 'default' : hit.part === 'body' ? 'pointer' : 'ew-resize';
      timeline.lanesCanvas.title = hit ? this.describe(hit.action) : '';
      return;
    }
    if (!drag.moved && Math.hypot(x - drag.x, y - drag.y) < STILL) return;
    drag.moved = true;
    this.preview(drag, x, event.altKey);
  }

  describe(action) {
    const score = action.score === null ? '' : `, score ${scoreText(action.score)}`;
    return `${this.store.labels[action.label]}, ${action.start.toFixed(3)}–${action.end.toFixed(3)} s${score}, ${stateOf(action)}`;
  }

  /** Show what letting go would do, and the frame at the boundary that moves. */
  preview(drag, x, isFree) {
    const { timeline, store, player } = this;
    const snap = (seconds) => (isFree ? toMilliseconds(seconds) : store.snap(seconds));
    if (drag.mode === 'pan') {
      const perPixel = (drag.view.to - drag.view.from) / (timeline.width - timeline.gutter - 8);
      timeline.show(drag.view.from - (x - drag.x) * perPixel, drag.view.to - (x - drag.x) * perPixel);
      return;
    }
    if (drag.mode === 'none') return;
    const at = snap(timeline.secondsAt(x));
    const { action } = drag.hit || {};
    if (drag.mode === 'add') {
      const from = snap(timeline.secondsAt(drag.x));
      timeline.preview = { key: null, label: drag.lane.label, start: Math.min(from, at), end: Math.max(from, at), status: 'added', origin: 'added', score: null };
      player.seek(at);
    } else if (drag.mode === 'move') {
      const shift = timeline.secondsAt(x) - timeline.secondsAt(drag.x);
      const length = action.end - action.start;
      const start = Math.min(Math.max(0, snap(action.start + shift)), store.video.duration - length);
      timeline.preview = { ...action, start, end: start + length };
      player.seek(start);
    } else {
      const moved = drag.mode === 'start' ? { start: Math.min(at, action.end - store.frame) } : { end: Math.max(at, action.start + store.frame) };
      timeline.preview = { ...action, ...moved };
      player.seek(drag.mode === 'start' ? timeline.preview.start : timeline.preview.end);
    }
    timeline.draw();
  }

  up(event) {
    this.touches.delete(event.pointerId);
    if (this.pinch) {
      if (this.touches.size === 0) this.pinch = null;
      return;
    }
    const { drag, timeline, store } = this;
    this.drag = null;
    const done = timeline.preview;
    timeline.preview = null;
    timeline.draw();
    if (!drag) return;
    if (!drag.moved) {
      store.select(drag.hit ? drag.hit.action.key : null);
      this.player.seek(timeline.secondsAt(drag.x));
    } else if (drag.mode === 'add' && done) {
      store.add(done.start, done.end, done.label);
      this.announce(`Added ${store.labels[done.label]}.`);
    } else if (done) {
      store.select(done.key);
      store.edit(done.key, { start: done.start, end: done.end });
    }
  }

  cancel(event) {
    this.touches.delete(event.pointerId);
    this.pinch = null;
    this.drag = null;
    this.timeline.preview = null;
    this.timeline.draw();
  }

  doubleClick(event) {
    const { x, y } = this.place(event);
    const hit = this.timeline.hit(x, y);
    if (hit) this.player.playAction(hit.action);
  }

  // ---- two fingers

  beginPinch() {
    this.drag = null;
    this.timeline.preview = null;
    const [first, second] = [...this.touches.values()];
    this.pinch = { distance: Math.max(20, Math.abs(first.x - second.x)), seconds: this.timeline.secondsAt((first.x + second.x) / 2), span: this.timeline.span };
  }

  movePinch() {
    if (this.touches.size < 2) return;
    const { timeline, pinch } = this;
    const [first, second] = [...this.touches.values()];
    const span = pinch.span * (pinch.distance / Math.max(20, Math.abs(first.x - second.x)));
    const share = ((first.x + second.x) / 2 - timeline.gutter) / (timeline.width - timeline.gutter - 8);
    timeline.show(pinch.seconds - share * span, pinch.seconds - share * span + span);
  }

  // ---- ruler, strip, wheel

  rulerDown(event) {
    if (event.button !== 0) return;
    this.timeline.ruler.canvas.setPointerCapture(event.pointerId);
    const { y } = this.rulerPlace(event);
    this.ruling = y < STRIP ? 'strip' : 'ruler';
    this.rulerMove(event);
  }

  rulerMove(event) {
    const { timeline } = this;
    const { x } = this.rulerPlace(event);
    if (this.ruling === 'ruler') {
      this.player.seek(timeline.secondsAt(x));
    } else if (this.ruling === 'strip') {
      const middle = ((x - timeline.gutter) / (timeline.width - timeline.gutter - 8)) * this.store.video.duration;
      timeline.show(middle - timeline.span / 2, middle + timeline.span / 2);
    }
  }

  rulerPlace(event) {
    const box = this.timeline.ruler.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  wheel(event) {
    const { timeline } = this;
    if (event.ctrlKey || event.metaKey || event.altKey) {
      event.preventDefault();
      timeline.zoom(Math.exp(event.deltaY * 0.002), timeline.secondsAt(this.place(event).x));
      return;
    }
    const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    if (!sideways) return;
    event.preventDefault();
    timeline.pan((sideways / timeline.width) * timeline.span);
  }
}
