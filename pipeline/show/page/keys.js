/* Keys: one table, which the help is made from. */

class Keys {
  constructor(actions) {
    this.actions = actions;
    const { player, store, timeline } = actions;
    const nudge = (side, frames) => (event) => actions.nudge(side, frames * (event.shiftKey ? 10 : 1));
    // Keys, what help says, what they do. Letters count whatever Shift is, unless Shift has an entry of its own.
    this.table = [
      [['Space'], 'Play or pause', () => player.toggle()],
      [['←', '→'], 'One frame back or on; with Shift one second', (event) => actions.arrow(event)],
      [['N', 'P'], 'Next or previous action; in the list and on the timeline also ↓ and ↑', (event) => actions.jump(event.key.toLowerCase() === 'n' ? 1 : -1)],
      [['Home', 'End'], 'Start or end of the video', (event) => player.seek(event.key === 'Home' ? 0 : store.video.duration)],
      [['Enter'], 'Play the selected action', () => store.selection && player.playAction(store.selection)],
      [['L'], 'Repeat the selected action', () => actions.toggleLoop()],
      [['M'], 'Sound off or on', () => actions.toggleMute()],
      [['Q', 'W'], 'Start a frame earlier or later; with Shift ten', (event) => nudge('start', event.key.toLowerCase() === 'q' ? -1 : 1)(event)],
      [['E', 'R'], 'End a frame earlier or later; with Shift ten', (event) => nudge('end', event.key.toLowerCase() === 'e' ? -1 : 1)(event)],
      [['I'], 'Mark where a new action starts', () => actions.markIn()],
      [['O'], 'Add an action from the mark to here', () => actions.markOut()],
      [['Shift+I', 'Shift+O'], 'Start or end the selected action here', (event) => actions.setHere(event.key.toLowerCase() === 'i' ? 'start' : 'end')],
      [['1', '…', '9'], 'Give the selected action that class', (event) => actions.relabel(Number(event.key) - 1)],
      [['A'], 'Accept the selected detection', () => actions.accept()],
      [['Shift+A'], 'Accept all detections shown', () => actions.acceptAll()],
      [['X', 'Delete', 'Backspace'], 'Delete the selected action', () => actions.remove()],
      [['Ctrl+Z', 'U'], 'Undo', () => actions.undo()],
      [['Ctrl+Shift+Z', 'Ctrl+Y'], 'Redo', () => actions.redo()],
      [['Ctrl+S'], 'Save', () => actions.save()],
      [['+', '−', '0'], 'Zoom in, zoom out, whole video', (event) => (event.key === '0' ? timeline.fit() : timeline.zoom(event.key === '-' ? 1.5 : 1 / 1.5))],
      [['V', 'Shift+V'], 'Next or previous video', (event) => store.choose(store.current + (event.shiftKey ? -1 : 1))],
      [['Esc'], 'Select nothing', () => actions.escape()],
      [['?'], 'This help', () => actions.help()],
    ];
    this.byName = new Map();
    for (const [names, , run] of this.table) for (const name of names) this.byName.set(name, run);
    for (let digit = 1; digit <= 9; digit += 1) this.byName.set(String(digit), this.byName.get('1'));
    this.byName.set('=', this.byName.get('+')); // the same key without Shift on many keyboards
    document.addEventListener('keydown', (event) => this.press(event));
    document.getElementById('keys').replaceChildren(...this.table.flatMap(([names, told]) => {
      const term = make('dt');
      term.append(...names.map((name) => make('kbd', '', name)));
      return [term, make('dd', '', told)];
    }));
  }

  press(event) {
    if (event.defaultPrevented || event.altKey || document.querySelector('dialog[open]')) return;
    const name = nameOf(event);
    const direction = { ArrowDown: 1, ArrowUp: -1 }[name];
    if (direction && ['list', 'lanes'].includes(event.target.id)) {
      event.preventDefault();
      this.actions.jump(direction);
      return;
    }
    if (belongsToControl(event, name)) return;
    const run = this.byName.get(name) || (event.shiftKey ? this.byName.get(name.replace('Shift+', '')) : undefined);
    if (!run) return;
    event.preventDefault();
    run(event);
  }
}

function nameOf(event) {
  const plain = { ' ': 'Space', ArrowLeft: '←', ArrowRight: '→', '-': '−', Escape: 'Esc' }[event.key] || event.key;
  const key = plain.length === 1 ? plain.toUpperCase() : plain;
  const isLetter = /^[A-Z]$/.test(key);
  return `${event.ctrlKey || event.metaKey ? 'Ctrl+' : ''}${event.shiftKey && isLetter ? 'Shift+' : ''}${key}`;
}

/** Whether the control that has the focus needs the key for itself. */
function belongsToControl(event, name) {
  const control = event.target.closest('input, select, textarea, button, summary');
  if (!control || name === 'Ctrl+S') return false;
  const isText = control.matches('select, textarea, input[type=number], input[type=text]');
  if (isText) return name !== 'Esc';
  if (control.matches('input[type=range]')) return ['←', '→', 'Home', 'End', 'ArrowUp', 'ArrowDown'].includes(name);
  return ['Space', 'Enter'].includes(name);
}
