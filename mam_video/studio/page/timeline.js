// The timeline: of each subject the state of every frame, cuts, prompts, the range, what is fetched, and where one is.
import * as addresses from '/page/addresses.js';
import { has } from '/page/pictures.js';
import { called, chosen, count, data, flaggedFrames, recordAt, state } from '/page/store.js';

const canvas = document.getElementById('timeline');
const context = canvas.getContext('2d', { alpha: false });
const LEFT = 10;
const RULER = 18;
const ROW = 12;
const COLOURS = {
  prompted: '#5aa9d6', tracked: '#6b7f6b', recovered: '#c9a227', uncertain: '#e0a030', lost: '#e05545', cut: '#8c5a5a',
};
const RANK = ['tracked', 'prompted', 'recovered', 'uncertain', 'cut', 'lost'];

const step = () => (canvas.clientWidth - 2 * LEFT) / count();
const xOf = (frame) => LEFT + frame * step();
export const frameAt = (x) => Math.min(Math.max(Math.floor((x - LEFT) / step()), 0), count() - 1);

export function resize() {
  const ratio = window.devicePixelRatio || 1;
  const rows = data.at ? state().subjects.length : 1;
  const height = RULER + Math.min(rows, 4) * (ROW + 2) + 14;
  const [w, h] = [Math.max(Math.round(canvas.clientWidth * ratio), 1), Math.round(height * ratio)];
  if (canvas.width === w && canvas.height === h) return;
  canvas.style.height = `${height}px`;
  canvas.width = w;
  canvas.height = h;
}

export function draw() {
  if (!data.at) return;
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = colour('--panel');
  context.fillRect(0, 0, width, height);
  drawRuler(width, colour);
  const subjects = state().subjects.slice(0, 4);
  subjects.forEach((subject, row) => drawRow(subject, RULER + row * (ROW + 2), colour));
  const bottom = RULER + subjects.length * (ROW + 2);
  drawFetched(bottom + 1, colour);
  drawSpan(bottom, colour);
  drawHead(bottom + 6, colour);
  canvas.setAttribute('aria-valuemax', count() - 1);
  canvas.setAttribute('aria-valuenow', data.frame);
  canvas.setAttribute('aria-valuetext', spoken());
}

// The frame and its state in words, for screen readers.
function spoken() {
  const record = recordAt(data.frame);
  const states = record ? Object.entries(record.subjects).map(([id, s]) => {
    const name = state().subjects.find((each) => each.id === Number(id))?.name ?? '';
    return `${name} ${s.state}`;
  }) : ['not tracked'];
  return `frame ${called(data.frame)}, ${states.join(', ')}; ${flaggedFrames().length} flagged`;
}

function drawRuler(width, colour) {
  const least = 64;                                       // pixels between numbers
  const choices = [1, 2, 5, 10, 20, 25, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10000];
  const every = choices.find((n) => n * step() >= least) ?? 20000;
  context.font = '10px system-ui, sans-serif';
  context.textAlign = 'left';
  context.textBaseline = 'top';
  for (let k = 0; k < count(); k += every) {
    context.fillStyle = colour('--line');
    context.fillRect(Math.round(xOf(k)), 4, 1, RULER - 4);
    context.fillStyle = colour('--dim');
    context.fillText(String(called(k)), Math.round(xOf(k)) + 3, 4);
  }
}

function drawRow(subject, y, colour) {
  context.fillStyle = colour('--ground');
  context.fillRect(LEFT, y, step() * count(), ROW);
  const wide = step();
  let from = 0;
  let last = null;
  const close = (to) => {
    if (last) { context.fillStyle = COLOURS[last]; context.fillRect(xOf(from), y, Math.max(xOf(to) - xOf(from) - (wide > 5 ? 1 : 0), 1), ROW); }
  };
  const per = Math.max(Math.ceil(1 / wide), 1);          // frames to a pixel: the worst of them is shown
  for (let k = 0; k < count(); k += per) {
    let worst = null;
    for (let j = k; j < Math.min(k + per, count()); j++) {
      const found = recordAt(j)?.subjects[subject.id];
      const shown = found && found.state === 'prompted' && found.flagged ? 'uncertain' : found?.state;
      if (shown && (worst === null || RANK.indexOf(shown) > RANK.indexOf(worst))) worst = shown;
    }
    if (worst !== last || wide > 5) { close(k); from = k; last = worst; }
  }
  close(count());
  for (let k = 0; k < count(); k++) {
    if (!recordAt(k)?.cut) continue;
    context.fillStyle = colour('--text');
    context.fillRect(Math.round(xOf(k)), y - 2, 1, ROW + 4);
  }
  for (const prompt of state().prompts) {
    if (prompt.subject !== subject.id) continue;
    const x = xOf(prompt.frame) + wide / 2;
    context.fillStyle = subject.colour;
    context.strokeStyle = '#111';
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(x, y); context.lineTo(x + 5, y + ROW / 2); context.lineTo(x, y + ROW); context.lineTo(x - 5, y + ROW / 2);
    context.closePath(); context.fill(); context.stroke();
  }
  if (state().subjects.length > 1) {
    context.fillStyle = subject.colour;
    context.fillRect(2, y, 4, ROW);
    if (subject.id === chosen().id) { context.fillStyle = colour('--text'); context.fillRect(0, y, 2, ROW); }
  }
}

function drawFetched(y, colour) {
  const wide = Math.max(step(), 1);
  context.fillStyle = colour('--line');
  context.fillRect(LEFT, y, step() * Math.min(data.at.indexed, count()), 2);
  context.fillStyle = colour('--dim');
  for (let k = Math.max(data.frame - 120, 0); k < Math.min(data.frame + 120, count()); k++) {
    if (has(addresses.plate(k, false))) context.fillRect(xOf(k), y, wide, 2);
  }
}

function drawSpan(bottom, colour) {
  const [first, last] = state().span ?? [0, count() - 1];
  context.fillStyle = 'rgb(0 0 0 / .45)';
  context.fillRect(LEFT, RULER, xOf(first) - LEFT, bottom - RULER);
  context.fillRect(xOf(last + 1), RULER, xOf(count()) - xOf(last + 1), bottom - RULER);
  if (!state().span) return;
  context.fillStyle = colour('--accent');
  context.fillRect(xOf(first) - 2, RULER - 2, 2, bottom - RULER + 2);
  context.fillRect(xOf(last + 1), RULER - 2, 2, bottom - RULER + 2);
}

function drawHead(bottom, colour) {
  const x = xOf(data.frame);
  const wide = Math.max(step(), 1);
  context.fillStyle = 'rgb(255 255 255 / .16)';
  context.fillRect(x, 2, wide, bottom);
  context.fillStyle = colour('--text');
  context.fillRect(Math.round(x + wide / 2), 2, 1, bottom);
  const text = String(called(data.frame));
  context.font = '600 11px system-ui, sans-serif';
  const w = context.measureText(text).width + 8;
  const left = Math.min(Math.max(x + wide / 2 - w / 2, 0), canvas.clientWidth - w);
  context.fillStyle = colour('--accent');
  context.fillRect(left, 1, w, 15);
  context.fillStyle = '#fff';
  context.textBaseline = 'top';
  context.textAlign = 'left';
  context.fillText(text, left + 4, 3);
}
