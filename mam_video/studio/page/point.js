// The panel of subjects, prompts, tracking and flagged frames.
import { byId, fill, make } from '/page/make.js';
import { called, chosen, count, data, flaggedFrames, recordAt, shows, state } from '/page/store.js';

export function draw(act, go, choose) {
  drawSubjects(act, choose);
  drawPrompts(act, go, choose);
  drawTracking();
  const span = state().span;
  byId('span-text').textContent = span ? `frames ${called(span[0])}–${called(span[1])}` : `whole clip, ${count()} frames`;
  byId('span-clear').disabled = span === null;
  drawFlags(go);
}

function drawSubjects(act, choose) {
  const several = state().subjects.length > 1;
  fill(byId('subjects'), state().subjects.map((subject) => make('li', {
    className: subject.id === chosen().id && several ? 'chosen' : '', onclick: () => choose(subject.id),
  },
  make('input', {
    type: 'color', className: 'swatch', value: subject.colour, 'aria-label': `Colour of ${subject.name}`,
    onchange: (event) => act('colour_subject', { subject: subject.id, colour: event.target.value }),
  }),
  make('input', {
    className: 'name', value: subject.name, 'aria-label': `Name of ${subject.name}`, title: 'Click to rename', maxLength: 64,
    onfocus: () => { if (several) choose(subject.id); },
    onchange: (event) => act('rename_subject', { subject: subject.id, name: event.target.value }),
    onkeydown: (event) => { if (event.key === 'Enter') event.target.blur(); },
  }),
  several ? make('button', {
    className: 'quiet', textContent: '×', 'aria-label': `Remove ${subject.name}`, title: 'Remove this subject and its prompts',
    onclick: (event) => { event.stopPropagation(); act('remove_subject', { subject: subject.id }); },
  }) : null)));
}

function drawPrompts(act, go, choose) {
  const several = state().subjects.length > 1;
  fill(byId('prompts'), state().prompts.map((prompt) => {
    const subject = state().subjects.find((s) => s.id === prompt.subject);
    const on = prompt.points.filter((p) => p[2]).length;
    const off = prompt.points.length - on;
    const parts = [prompt.mask ? 'mask' : '', prompt.box ? 'box' : '', on ? `${on} on the subject` : '', off ? `${off} on the background` : ''].filter(Boolean);
    return make('li', { className: prompt.frame === data.frame ? 'chosen' : '' },
      make('button', {
        className: 'quiet grow', title: 'Go to this frame',
        textContent: `${several ? `${subject.name}, ` : ''}frame ${called(prompt.frame)}: ${parts.join(', ')}${shows(prompt) ? '' : ' (shows no subject yet)'}`,
        onclick: () => { choose(prompt.subject); go(prompt.frame); },
      }),
      make('button', {
        className: 'quiet', textContent: '×', 'aria-label': `Remove the prompt on frame ${called(prompt.frame)}`,
        onclick: () => act('clear_prompt', { subject: prompt.subject, frame: prompt.frame }),
      }));
  }), 'none yet: drag a box in the picture');
}

function drawTracking() {
  const running = data.at.running;
  const version = data.at.version;
  const ready = state().prompts.some(shows);
  const frames = state().span ? state().span[1] - state().span[0] + 1 : count();
  const button = byId('track');
  button.hidden = running !== null;
  button.disabled = !ready || (version !== null && version.current && version.whole);
  button.textContent = version === null ? `Track ${frames} frames` : data.at.corrects ? 'Correct' : 'Track again';
  byId('stop').hidden = byId('track-progress').hidden = running === null;
  let note = '';
  if (running) {
    const total = running.span[1] - running.span[0] + 1;
    const ahead = running.matted === 0 && running.tracked > 0;
    byId('track-progress').max = total;
    if (running.corrects) byId('track-progress').removeAttribute('value');
    else byId('track-progress').value = ahead ? Math.min(running.tracked, total) : running.matted;
    note = running.corrects ? `only the frames around the new prompt: ${running.tracked} steps tracked, ${running.matted} frames matted`
      : ahead ? `tracking between prompts: ${running.tracked} steps` : `matted ${running.matted} of ${total} frames`;
  } else if (!ready) note = 'First show the subject: drag a box around it.';
  else if (version === null) note = 'Follows the subject through the clip and mattes every frame.';
  else if (!version.whole) note = `Version ${version.number} was stopped at frame ${called(version.span[1])}.`;
  else if (!version.current) note = data.at.corrects
    ? 'Tracks again only the frames between the neighbouring prompts.' : 'Prompts or settings have changed since; track again to use them.';
  else note = `Version ${version.number} is up to date.`;
  byId('track-note').textContent = note;
}

function drawFlags(go) {
  const groups = [];
  for (const frame of flaggedFrames()) {
    const found = Object.values(recordAt(frame).subjects).filter((s) => s.flagged);
    const what = found.map((s) => s.state)[0];
    const last = groups.at(-1);
    if (last && last.to === frame - 1 && last.what === what) last.to = frame;
    else groups.push({ from: frame, to: frame, what, why: found.flatMap((s) => s.why)[0] ?? '' });
  }
  const tracked = data.records.size > 0 || data.live.size > 0;
  byId('flags-title').hidden = byId('flags').hidden = !tracked;
  fill(byId('flags'), groups.slice(0, 200).map((group) => make('li', {},
    make('button', {
      className: 'quiet grow', title: group.why, onclick: () => go(group.from),
      textContent: `${group.from === group.to ? `frame ${called(group.from)}` : `frames ${called(group.from)}–${called(group.to)}`}: ${group.what}`,
    }))), 'none; play the clip once to be sure');
}
