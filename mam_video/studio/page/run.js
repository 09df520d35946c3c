// The panel of outputs, the command line and the queue.
import { bytesText, byId, fill, make, timeText } from '/page/make.js';
import { data, shows, state } from '/page/store.js';

const placeName = (path, k) => (k === 0 ? 'beside the clip' : k === 1 ? 'in the project' : path);

function withSuffix(name, kind) {
  const suffixes = data.kinds.find((each) => each.name === kind)?.suffixes ?? ['.mov'];
  const stem = name.replace(/\/$/, '').replace(/\.[A-Za-z0-9]{2,4}$/, '');
  if (suffixes.some((s) => name.endsWith(s))) return name;
  const numbered = suffixes.includes('/') && !stem.includes('%');
  return numbered ? `${stem}.%04d${suffixes[0]}` : `${suffixes.includes('/') ? stem : stem.replace('.%04d', '')}${suffixes[0]}`;
}

export function draw(act, stopRun) {
  const outputs = data.at.outputs;
  const plain = () => outputs.map(({ name, kind, place }) => ({ name, kind, place }));
  const changed = (k, more) => {
    const all = plain();
    all[k] = { ...all[k], ...more };
    act('set_outputs', { outputs: all });
  };
  fill(byId('outputs'), outputs.map((output, k) => make('li', {},
    make('select', {
      'aria-label': 'Kind', onchange: (e) => changed(k, { kind: e.target.value, name: withSuffix(output.name, e.target.value) }),
    }, ...data.kinds.map((kind) => make('option', { value: kind.name, textContent: kind.says, selected: kind.name === output.kind }))),
    make('input', { type: 'text', value: output.name, 'aria-label': 'File name', maxLength: 120, onchange: (e) => changed(k, { name: e.target.value }) }),
    make('select', { 'aria-label': 'Place', title: data.at.places[output.place], onchange: (e) => changed(k, { place: Number(e.target.value) }) },
      ...data.at.places.map((path, n) => make('option', { value: n, textContent: placeName(path, n), title: path, selected: n === output.place }))),
    make('span', { className: 'dim small size', textContent: bytesText(output.bytes) }),
    outputs.length > 1 ? make('button', {
      className: 'quiet', textContent: '×', 'aria-label': `Remove output ${output.name}`,
      onclick: () => act('set_outputs', { outputs: plain().filter((_, n) => n !== k) }),
    }) : null)));
  byId('add-output').onclick = () => {
    const stem = outputs[0].name.replace(/\.[A-Za-z0-9]+$/, '');
    const all = [...plain(), { name: `${stem}.look.mp4`, kind: 'preview', place: outputs[0].place }];
    act('set_outputs', { outputs: all });
  };
  drawBehind(act, outputs);
  byId('replace').checked = state().values.output?.overwrite ?? false;
  byId('command').textContent = data.at.command;
  const waiting = data.desk.runs.some((run) => run.shot === data.clip.shot && ['waiting', 'running', 'stopping'].includes(run.how));
  const ready = state().prompts.some(shows) || data.at.version !== null;
  byId('run').disabled = waiting || !ready;
  const version = data.at.version;
  byId('run-note').textContent = !ready ? 'First show the subject in step 1.'
    : version?.whole && version.current ? `Follows version ${version.number}; nothing is tracked again.`
      : 'Tracks by the prompts as it runs, since no version is up to date.';
  byId('last-report').hidden = !data.at.report;
  byId('last-report').href = `/api/${data.clip.shot}/report`;
  drawQueue(stopRun);
}

// What previews are written over: the default colour, what the settings say, or a file that the command line named.
function drawBehind(act, outputs) {
  byId('behind-row').hidden = !outputs.some((output) => output.kind === 'preview');
  const standard = data.knobs.find((knob) => knob.key === 'output.background').default;
  const now = state().values.output?.background ?? standard;
  const files = data.desk.backgrounds.map(({ name }, number) => ({ name, number, here: now.endsWith(`/${name}`) || now.endsWith(`\\${name}`) }));
  const plain = [...new Set([standard, 'checker', '#000000', '#ffffff', ...(files.some((f) => f.here) ? [] : [now])])];
  const select = byId('behind');
  if (select === document.activeElement) return;
  select.replaceChildren(
    ...plain.map((value) => make('option', { value, textContent: value, selected: value === now })),
    ...files.map(({ name, number, here }) => make('option', { value: `file:${number}`, textContent: name, selected: here })));
  select.onchange = () => {
    const { value } = select;
    select.blur();
    if (value.startsWith('file:')) act('set_background', { background: Number(value.slice(5)) });
    else act('set_setting', { key: 'output.background', value });
  };
}

// What a run does now, in words.
function stageOf({ done, total, tracked, eta, fps }) {
  if (done === undefined) return 'reading the clip, loading the model…';
  if (tracked !== undefined) return `tracking between the prompts: ${tracked} steps`;
  if (done === total) return 'closing and checking the files…';
  return `matting: ${done} of ${total ?? '?'} frames, ${fps.toFixed(1)} a second, ${timeText(eta)} left`;
}

// How the work is shared out among the stages, the largest shares first.
function sharesOf(stages) {
  const whole = Object.values(stages).reduce((sum, seconds) => sum + seconds, 0);
  if (whole <= 0) return '';
  return Object.entries(stages).slice(0, 5).map(([name, seconds]) => `${name} ${Math.round(100 * seconds / whole)} %`).join(', ');
}

function drawQueue(stopRun) {
  fill(byId('queue'), data.desk.runs.slice(0, 30).map((run) => {
    const { done, total, tracked } = run.progress;
    const live = run.how === 'running' || run.how === 'stopping';
    const said = {
      waiting: 'waiting', stopping: 'stopping…', stopped: 'stopped', failed: 'failed',
      running: stageOf(run.progress),
      done: `done: ${done} frames in ${timeText(run.seconds)}`,
      flagged: `done: ${done} frames in ${timeText(run.seconds)}; some are flagged`,
    }[run.how];
    const tone = { failed: 'bad', flagged: 'warn', done: 'good' }[run.how] ?? '';
    return make('li', {},
      make('span', { className: 'grow', textContent: run.name }),
      make('span', { className: `small ${tone}`, textContent: said }),
      live || run.how === 'waiting' ? make('button', { textContent: 'Stop', 'aria-label': `Stop ${run.name}`, onclick: () => stopRun(run.number) }) : null,
      live ? make('progress', { max: total ?? 1, value: Math.min(done || tracked || 0, total ?? 1), 'aria-label': `Progress of ${run.name}` }) : null,
      live && run.progress.stages ? make('p', { className: 'small dim stages', textContent: sharesOf(run.progress.stages) }) : null,
      run.message ? make('p', { className: 'small dim', textContent: run.message }) : null,
      run.how === 'stopped' && run.command.includes('--resume') ? make('p', { className: 'small dim', textContent: 'Run goes on where it stopped.' }) : null);
  }), 'empty');
}
