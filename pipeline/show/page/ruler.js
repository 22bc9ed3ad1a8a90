/* The ruler above the lanes: a strip of the whole video, and the times of the part in view. */

const STRIP = 18;
const RULER = 24;

class Ruler {
  constructor(timeline, store) {
    this.timeline = timeline;
    this.store = store;
    this.canvas = document.getElementById('ruler');
  }

  draw() {
    const { timeline } = this;
    const { theme, gutter, width, view, span } = timeline;
    const { duration } = this.store.video;
    const context = prepared(this.canvas, width, STRIP + RULER);
    // 1. The strip: the whole video, and the part in view.
    const inner = width - gutter - 8;
    const place = (seconds) => gutter + (seconds / duration) * inner;
    context.drawImage(this.strip(inner), gutter, 0, inner, STRIP);
    context.strokeStyle = theme.accent;
    context.lineWidth = 2;
    context.beginPath();
    context.roundRect(place(view.from), 3, Math.max(6, place(view.to) - place(view.from)), STRIP - 4, 4);
    context.stroke();
    // 2. The ruler.
    const step = tickStep(span, Math.max(2, inner / 90));
    context.font = '11px system-ui, sans-serif';
    context.fillStyle = theme.quiet;
    context.textAlign = 'center';
    for (let tick = Math.ceil(view.from / step - 1e-9) * step; tick <= view.to + 1e-9; tick += step) {
      const x = timeline.xOf(tick);
      context.fillRect(Math.round(x), STRIP + RULER - 6, 1, 6);
      const text = clockText(tick, step < 1 ? (step < 0.1 ? 2 : 1) : 0);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(Math.max(x, gutter / 4 + half), width - half - 2), STRIP + RULER - 14);
    }
    context.textAlign = 'left';
  }

  /** The actions of the whole video, drawn once a change. */
  strip(inner) {
    const { timeline } = this;
    const made = [this.store.version, inner, timeline.theme.sunken].join();
    if (this.stripMade === made) return this.stripCanvas;
    this.stripMade = made;
    this.stripCanvas = document.createElement('canvas');
    const context = prepared(this.stripCanvas, inner, STRIP);
    const scale = inner / this.store.video.duration;
    context.fillStyle = timeline.theme.sunken;
    context.beginPath();
    context.roundRect(0, 4, inner, STRIP - 6, 3);
    context.fill();
    for (const action of this.store.shown()) {
      context.globalAlpha = isKept(action) ? 0.9 : 0.2 + 0.5 * timeline.strength(action);
      context.fillStyle = timeline.colour(action.label);
      context.fillRect(action.start * scale, 6, Math.max(1, (action.end - action.start) * scale), STRIP - 10);
    }
    return this.stripCanvas;
  }
}

/** A canvas of so many pixels of the page, empty, to draw on in the screen's own. */
function prepared(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  context.textBaseline = 'middle';
  return context;
}

/** Seconds between ticks: a round number that leaves at most so many. */
function tickStep(span, most) {
  const steps = [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200];
  return steps.find((step) => span / step <= most) || 14400;
}

function clockText(seconds, digits = 0) {
  const scale = 10 ** digits;
  const rounded = Math.round(seconds * scale) / scale;
  const hours = Math.floor(rounded / 3600);
  const minutes = Math.floor((rounded % 3600) / 60);
  const rest = (rounded - 3600 * hours - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, '0');
  return hours ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}
