/* What stands beside the timeline: the selected action, the list of actions, thresholds and classes. */

const LIST_ROW = 34;

const byId = (id) => document.getElementById(id);

/** An element with its text; a label or an id is never anything but text. */
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** A square of a class's colour. */
function makeSwatch(label) {
  const swatch = make('span', 'swatch');
  swatch.style.background = `var(--class-${label % NUM_COLOURS})`;
  return swatch;
}

function fillChoice(select, names) {
  select.replaceChildren(...names.map((name, number) => {
    const option = make('option', '', name);
    option.value = String(number);
    return option;
  }));
}

class Panel {
  constructor(store, player, actions) {
    Object.assign(this, { store, player, actions });
    this.list = byId('list');
    this.listSpace = byId('list-space');
    this.list.addEventListener('scroll', () => this.drawList());
    new ResizeObserver(() => this.drawList()).observe(this.list);
    this.buildLabels();
    this.listen();
  }

  /** Everything that holds one entry a class. */
  buildLabels() {
    const { store } = this;
    this.numLabels = store.labels.length;
    byId('legend').textContent = this.numLabels > NUM_COLOURS
      ? `Colours are assigned by class, ${NUM_COLOURS} in turn.` : 'Colours are assigned by class.';
    fillChoice(byId('label-choice'), store.labels);
    fillChoice(byId('new-label'), store.labels);
    this.rows = store.labels.map((name, label) => {
      const row = make('li', 'class-row');
      const check = make('input');
      check.type = 'checkbox';
      check.addEventListener('change', () => {
        if (check.checked) store.hidden.delete(label); else store.hidden.add(label);
        store.changed();
      });
      const head = make('label', 'class-head');
      head.append(check, makeSwatch(label), make('span', 'class-name', name));
      const count = make('span', 'quiet');
      const slider = make('input', 'class-threshold');
      slider.type = 'range';
      slider.min = '0';
      slider.max = '1000';
      slider.setAttribute('aria-label', `Threshold of ${name}`);
      const top = Math.max(store.highest[label], store.thresholds[label]) * 1.0001;
      slider.addEventListener('input', () => {
        store.thresholds[label] = (Number(slider.value) / 1000) * top;
        store.changed();
      });
      const value = make('output', 'quiet value');
      row.append(head, count, slider, value);
      return { row, check, count, slider, value, top };
    });
    byId('classes').replaceChildren(...this.rows.map(({ row }) => row));
  }

  listen() {
    const { store } = this;
    byId('label-choice').addEventListener('change', (event) => this.actions.relabel(Number(event.target.value)));
    for (const side of ['start', 'end']) {
      byId(side).addEventListener('change', (event) => {
        const value = Number.parseFloat(event.target.value);
        if (Number.isFinite(value)) store.edit(store.selected, { [side]: value });
        this.update();
      });
      byId(`${side}-here`).addEventListener('click', () => this.actions.setHere(side));
    }
    byId('inspector').addEventListener('submit', (event) => event.preventDefault());
    byId('accept').addEventListener('click', () => this.actions.accept());
    byId('delete').addEventListener('click', () => this.actions.remove());
    byId('done').addEventListener('change', (event) => store.setDone(event.target.checked));
    byId('scale').addEventListener('input', (event) => {
      store.scale = Number(event.target.value) / 100;
      store.changed();
    });
    byId('scale-reset').addEventListener('click', () => {
      store.scale = 0;
      store.thresholds = store.thresholds.map((_, label) => store.data.thresholds[label] ?? 0);
      store.changed();
    });
    byId('new-label').addEventListener('change', (event) => {
      store.newLabel = Number(event.target.value);
      store.changed();
    });
    byId('all-classes').addEventListener('click', () => {
      store.hidden.clear();
      store.changed();
    });
    byId('no-classes').addEventListener('click', () => {
      store.hidden = new Set(store.labels.keys());
      store.changed();
    });
    this.list.addEventListener('click', (event) => {
      const row = event.target.closest('[data-key]');
      if (row) this.actions.goTo(store.find(row.dataset.key));
    });
    this.list.addEventListener('dblclick', () => { if (store.selection) this.player.playAction(store.selection); });
  }

  update() {
    if (this.numLabels !== this.store.labels.length) this.buildLabels();
    this.updateInspector();
    this.updateClasses();
    this.updateList();
  }

  updateInspector() {
    const { store } = this;
    const action = store.selection;
    byId('inspector').hidden = !action;
    byId('nothing-selected').hidden = Boolean(action);
    if (!action) return;
    const state = stateOf(action);
    byId('state-badge').textContent = state;
    byId('state-badge').dataset.state = state;
    byId('score-text').textContent = action.score === null ? '' : `score ${scoreText(action.score)}`;
    byId('label-choice').value = String(action.label);
    byId('start').value = action.start.toFixed(3);
    byId('end').value = action.end.toFixed(3);
    for (const side of ['start', 'end']) byId(side).max = store.video.duration.toFixed(3);
    byId('accept').disabled = isKept(action);
    byId('accept').textContent = isKept(action) ? 'Kept' : 'Accept';
  }

  updateClasses() {
    const { store } = this;
    const shown = new Array(store.labels.length).fill(0);
    const all = new Array(store.labels.length).fill(0);
    for (const action of store.shown()) shown[action.label] += 1;
    for (const action of store.video.actions) if (action.status !== 'deleted') all[action.label] += 1;
    for (const [label, { check, count, slider, value, top }] of this.rows.entries()) {
      check.checked = !store.hidden.has(label);
      count.textContent = `${shown[label]} of ${all[label]}`;
      const threshold = store.threshold(label);
      if (document.activeElement !== slider) slider.value = String((store.thresholds[label] / top) * 1000);
      value.textContent = scoreText(threshold);
    }
    byId('scale').value = String(Math.round(store.scale * 100));
    byId('new-label').value = String(store.newLabel);
    const isSet = store.thresholds.some((each, label) => each !== (store.data.thresholds[label] ?? 0));
    const base = isSet ? 'thresholds as set below' : 'operating thresholds';
    byId('scale-text').textContent = store.scale === 0 ? base
      : store.scale < 0 ? `${Math.round(-100 * store.scale)} % lower than the ${base}`
        : `${Math.round(100 * store.scale)} % of the way to the highest score`;
  }

  updateList() {
    const { store } = this;
    const shown = store.shown();
    const kept = store.video.actions.filter(isKept).length;
    byId('list-count').textContent = `${shown.length} shown, ${kept} kept`;
    byId('done').checked = store.video.done;
    this.listSpace.style.height = `${shown.length * LIST_ROW}px`;
    if (this.listedSelection !== store.selected) {
      this.listedSelection = store.selected;
      const place = shown.findIndex((action) => action.key === store.selected);
      const { scrollTop, clientHeight } = this.list;
      if (place >= 0 && (place * LIST_ROW < scrollTop || (place + 1) * LIST_ROW > scrollTop + clientHeight)) {
        this.list.scrollTop = place * LIST_ROW - clientHeight / 2 + LIST_ROW / 2;
      }
    }
    this.drawList();
  }

  /** Rows in view alone. */
  drawList() {
    const { store, list } = this;
    const shown = store.shown();
    const first = Math.max(0, Math.floor(list.scrollTop / LIST_ROW) - 3);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / LIST_ROW) + 3);
    const rows = [];
    for (let place = first; place < last; place += 1) {
      const action = shown[place];
      const row = make('div', 'list-row');
      row.id = `row-${action.key}`;
      row.dataset.key = action.key;
      row.setAttribute('role', 'option');
      row.setAttribute('aria-selected', String(action.key === store.selected));
      row.setAttribute('aria-posinset', String(place + 1));
      row.setAttribute('aria-setsize', String(shown.length));
      row.style.top = `${place * LIST_ROW}px`;
      const state = stateOf(action);
      const note = state === 'detected' ? Number(action.score.toPrecision(2)) : state;
      row.append(
        makeSwatch(action.label), make('span', 'list-name', store.labels[action.label]),
        make('span', 'list-time', `${clockText(action.start, 1)}–${clockText(action.end, 1)}`), make('span', 'list-note', note));
      rows.push(row);
    }
    this.listSpace.replaceChildren(...rows);
    const selected = shown.find((action) => action.key === store.selected);
    if (selected) list.setAttribute('aria-activedescendant', `row-${selected.key}`);
    else list.removeAttribute('aria-activedescendant');
  }
}
