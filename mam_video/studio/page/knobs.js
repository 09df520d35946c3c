// Settings, made from the library's own list: edges with sliders, the rest in groups with a search.
import { byId, make } from '/page/make.js';
import { chosen, data, state } from '/page/store.js';

const shownMost = { choke: 20, grow: 20, feather: 20 };    // pixels at the slider's end; the number beside takes more

function valueOf(knob) {
  const own = state().values;
  if (knob.edge && state().subjects.length > 1) {
    const mine = own.edges?.[String(chosen().id)]?.[knob.name];
    if (mine !== undefined) return mine;
  }
  return own[knob.section]?.[knob.name] ?? knob.default;
}

const changedOf = (knob) => valueOf(knob) !== knob.default;
const title = (name) => name.replaceAll('_', ' ');

// An edge setting: a slider that shows its effect at once, saved when it is let go.
function edgeRow(knob, act, tried) {
  const [low, high] = [knob.low, shownMost[knob.name] ?? knob.high];
  const step = high <= 1 ? 0.01 : 0.5;
  const id = `edge-${knob.name}`;
  const number = make('input', { type: 'number', id, min: knob.low, max: knob.high, step });
  const slider = make('input', { type: 'range', min: low, max: high, step, 'aria-label': title(knob.name) });
  const save = (value) => act('set_setting', { key: knob.key, value, subject: chosen().id });
  slider.addEventListener('input', () => { number.value = slider.value; tried(knob.name, Number(slider.value)); });
  slider.addEventListener('change', () => save(Number(slider.value)));
  number.addEventListener('change', () => save(Number(number.value)));
  const reset = make('button', { className: 'quiet', textContent: '↺', 'aria-label': `Reset ${title(knob.name)}`, title: `Default: ${knob.default}`, onclick: () => save(null) });
  const row = make('div', { className: 'knob' },
    make('div', { className: 'head' }, make('label', { htmlFor: id, textContent: title(knob.name) }), number,
      make('span', { className: 'dim small', textContent: knob.unit === 'pixels' ? 'px' : '' }), reset),
    slider, make('p', { textContent: knob.help }));
  const update = () => {
    const value = data.edges?.[knob.name] ?? valueOf(knob);
    if (document.activeElement !== number) number.value = value;
    slider.value = value;
    row.classList.toggle('changed', changedOf(knob));
    reset.disabled = !changedOf(knob);
  };
  return { row, update };
}

function control(knob, save) {
  if (knob.kind === 'bool') return make('input', { type: 'checkbox', onchange: (e) => save(e.target.checked) });
  if (knob.choices.length) {
    return make('select', { onchange: (e) => save(e.target.value) },
      ...knob.choices.map((choice) => make('option', { value: choice, textContent: choice })));
  }
  if (knob.kind === 'int' || knob.kind === 'float') {
    return make('input', {
      type: 'number', min: knob.low ?? '', max: knob.high ?? '', step: knob.kind === 'int' ? 1 : 'any',
      placeholder: knob.default === null ? 'auto' : '',
      onchange: (e) => save(e.target.value === '' ? null : Number(e.target.value)),
    });
  }
  return make('input', { type: 'text', maxLength: 200, onchange: (e) => save(e.target.value === '' ? null : e.target.value) });
}

function plainRow(knob, act) {
  const save = (value) => act('set_setting', { key: knob.key, value });
  const input = control(knob, save);
  input.id = `knob-${knob.key}`;
  const reset = make('button', { className: 'quiet', textContent: '↺', 'aria-label': `Reset ${title(knob.name)}`, title: `Default: ${knob.default ?? knob.absent}`, onclick: () => save(null) });
  const row = make('div', { className: 'knob', title: knob.flag },
    make('div', { className: 'head' }, make('label', { htmlFor: input.id, textContent: title(knob.name) }), input, reset),
    make('p', { textContent: `${knob.help}${knob.unit && knob.kind !== 'str' ? ` In ${knob.unit}.` : ''}` }));
  const update = () => {
    const value = valueOf(knob);
    if (document.activeElement !== input) {
      if (knob.kind === 'bool') input.checked = value; else input.value = value ?? '';
    }
    row.classList.toggle('changed', changedOf(knob));
    reset.disabled = !changedOf(knob);
  };
  return { row, update, text: `${knob.key} ${title(knob.name)} ${knob.help}`.toLowerCase() };
}

let rows = [];

export function build(act, tried) {
  rows = [];
  const edges = data.knobs.filter((k) => k.edge);
  const order = ['choke', 'grow', 'feather', 'black', 'white'];
  edges.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  byId('edges').replaceChildren(...edges.map((knob) => {
    const made = edgeRow(knob, act, tried);
    rows.push(made);
    return made.row;
  }));
  const groups = new Map();
  for (const knob of data.knobs) if (!knob.edge) groups.set(knob.section, [...(groups.get(knob.section) ?? []), knob]);
  byId('knobs').replaceChildren(...[...groups].map(([section, knobs]) => {
    const made = knobs.map((knob) => plainRow(knob, act));
    rows.push(...made);
    const group = make('details', {}, make('summary', { textContent: section }), ...made.map((each) => each.row));
    group.rows = made;
    return group;
  }));
  byId('search').addEventListener('input', (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const group of byId('knobs').children) {
      let any = false;
      for (const each of group.rows) {
        each.row.hidden = !words.every((word) => each.text.includes(word));
        any ||= !each.row.hidden;
      }
      group.hidden = !any;
      group.open = any && words.length > 0;
    }
  });
}

export function draw() {
  byId('finish-who').textContent = state().subjects.length > 1
    ? `Edges of ${chosen().name}; choose another subject in step 1. All lengths are pixels of the plate.`
    : 'All lengths are pixels of the plate. The picture shows the alpha that will be written.';
  for (const each of rows) each.update();
}
