// Draws the frame: plate, matte, composites, the compare line, prompts. The picture's pixels are placed by one transform.
import * as addresses from '/page/addresses.js';
import { picture } from '/page/pictures.js';
import { data, promptsAt, state } from '/page/store.js';

const canvas = document.getElementById('picture');
const context = canvas.getContext('2d', { alpha: false });
const layer = document.createElement('canvas').getContext('2d');   // for composites, as large as the window
const [rim, tint, rimOwn, tintOwn] = Array.from({ length: 4 }, () => document.createElement('canvas').getContext('2d'));

export const place = { scale: 1, x: 0, y: 0, fitted: true };       // screen = image * scale + (x, y), in CSS pixels
let ratio = 1;

export function resize() {
  ratio = window.devicePixelRatio || 1;
  const { clientWidth: w, clientHeight: h } = canvas;
  for (const each of [canvas, layer.canvas, rim.canvas, tint.canvas]) {
    const [width, height] = [Math.max(Math.round(w * ratio), 1), Math.max(Math.round(h * ratio), 1)];
    if (each.width !== width || each.height !== height) { each.width = width; each.height = height; }
  }
  if (place.fitted) fit();
}

export function fit() {
  if (!data.clip) return;
  const { clientWidth: w, clientHeight: h } = canvas;
  place.scale = Math.min((w - 24) / data.clip.width, (h - 24) / data.clip.height);
  place.x = (w - data.clip.width * place.scale) / 2;
  place.y = (h - data.clip.height * place.scale) / 2;
  place.fitted = true;
}

export function zoomTo(scale, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const next = Math.min(Math.max(scale, 0.05), 64);
  place.x = x - (x - place.x) * next / place.scale;
  place.y = y - (y - place.y) * next / place.scale;
  place.scale = next;
  place.fitted = false;
}

export const toImage = (x, y) => [(x - place.x) / place.scale, (y - place.y) / place.scale];
export const toScreen = (x, y) => [x * place.scale + place.x, y * place.scale + place.y];

// Whether pictures for scrubbing are too small for what is seen.
export const needsFull = () => place.scale * ratio > 1.02 * data.clip.view[0] / data.clip.width;

// The picture at full size where it is there, else the smaller one.
function best(address, full) {
  return (full ? picture(address(true)) : undefined) ?? picture(address(false));
}

const plateOf = (frame) => best((full) => addresses.plate(frame, full), needsFull());
const matteOf = (frame, who, version) => best((full) => addresses.matte(frame, who, version, full), needsFull());

function put(target, bitmap, dx = 0, dy = 0) {
  const s = place.scale * ratio;
  target.imageSmoothingEnabled = s * data.clip.width / bitmap.width < 2;
  target.drawImage(bitmap, Math.round(place.x * ratio) + dx, Math.round(place.y * ratio) + dy,
    Math.round(data.clip.width * s), Math.round(data.clip.height * s));
}

function fillPicture(target, colour) {
  const s = place.scale * ratio;
  target.fillStyle = colour;
  target.fillRect(Math.round(place.x * ratio), Math.round(place.y * ratio),
    Math.round(data.clip.width * s), Math.round(data.clip.height * s));
}

let squares = null;
function checker() {
  if (!squares) {
    const side = 10;
    const tile = document.createElement('canvas');
    tile.width = tile.height = 2 * side;
    const t = tile.getContext('2d');
    t.fillStyle = '#a8a8a8'; t.fillRect(0, 0, 2 * side, 2 * side);
    t.fillStyle = '#686868'; t.fillRect(0, 0, side, side); t.fillRect(side, side, side, side);
    squares = context.createPattern(tile, 'repeat');
  }
  return squares;
}

function cleared(target) {
  target.globalCompositeOperation = 'source-over';
  target.globalAlpha = 1;
  target.clearRect(0, 0, target.canvas.width, target.canvas.height);
  return target;
}

// The subject cut out of the plate, on the layer.
function cutOut(frame, version) {
  const [rgb, alpha] = [plateOf(frame), matteOf(frame, null, version)];
  if (!rgb || !alpha) return false;
  cleared(layer);
  put(layer, alpha);
  layer.globalCompositeOperation = 'source-in';
  put(layer, rgb);
  layer.globalCompositeOperation = 'source-over';
  return true;
}

// A rim around a matte in a colour, and a faint tint of it. In its own pixels where they are about as large as those of
// the screen: copies that are not scaled are several times quicker. Enlarged, the rim stays thin on the screen.
function outline(frame, subject, version) {
  const alpha = matteOf(frame, subject.id, version);
  if (!alpha) return;
  const size = data.clip.width * place.scale * ratio / alpha.width;   // pixels of the screen for one of the matte
  if (size > 2) {
    drawRim(rim, tint, (target, dx, dy) => put(target, alpha, dx, dy), Math.max(1.25 * ratio, 1), subject.colour);
    context.drawImage(rim.canvas, 0, 0);
    return;
  }
  for (const each of [rimOwn, tintOwn]) {
    if (each.canvas.width !== alpha.width || each.canvas.height !== alpha.height) {
      each.canvas.width = alpha.width; each.canvas.height = alpha.height;
    }
  }
  const wide = Math.max(Math.round(1.25 * ratio / size), 1);
  drawRim(rimOwn, tintOwn, (target, dx, dy) => target.drawImage(alpha, dx, dy), wide, subject.colour);
  put(context, rimOwn.canvas);
}

// Draw rim and tint onto `target`. copy(canvas, dx, dy) draws the matte.
function drawRim(target, filled, copy, wide, colour) {
  cleared(filled);
  copy(filled, 0, 0);
  filled.globalCompositeOperation = 'source-in';
  filled.fillStyle = colour;
  filled.fillRect(0, 0, filled.canvas.width, filled.canvas.height);
  cleared(target);
  for (const [dx, dy] of [[wide, 0], [-wide, 0], [0, wide], [0, -wide]]) target.drawImage(filled.canvas, dx, dy);
  target.globalCompositeOperation = 'destination-out';
  copy(target, 0, 0);
  target.globalCompositeOperation = 'destination-over';
  target.globalAlpha = 0.12;
  target.drawImage(filled.canvas, 0, 0);
}

function drawBackdrop(frame) {
  const number = addresses.chosenBackground();
  const behind = number === null ? null : picture(addresses.background(frame, number));
  if (behind) put(context, behind);
  else fillPicture(context, number !== null ? '#222' : data.backdrop === 'checker' ? checker() : data.backdrop);
}

function look(frame, view, version) {
  const rgb = plateOf(frame);
  if (view === 'alpha') {
    fillPicture(context, '#000');
    const alpha = matteOf(frame, null, version);
    if (alpha) put(context, alpha);
    return;
  }
  if (view === 'over') {
    drawBackdrop(frame);
    if (cutOut(frame, version)) context.drawImage(layer.canvas, 0, 0);
    return;
  }
  if (rgb) put(context, rgb); else fillPicture(context, '#222');
  if (view === 'outline') for (const subject of state().subjects) outline(frame, subject, version);
}

function otherSide() {
  return data.compare === 'plate' ? ['plate', ''] : [data.view === 'plate' ? 'outline' : data.view, data.compare];
}

export function draw() {
  if (!data.at) return;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.globalAlpha = 1;
  context.fillStyle = getComputedStyle(canvas.parentElement).backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  const frame = data.frame;
  if (data.compare !== '' && data.other) look(frame, ...otherSide());
  else look(frame, data.view, '');
  if (data.onion && frame > 0) {
    const before = plateOf(frame - 1);
    if (before) { context.globalAlpha = 0.4; put(context, before); context.globalAlpha = 1; }
  }
  if (data.compare !== '' && !data.other) drawWipe(frame);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (data.speed === 0 && !document.getElementById('panel-point').hidden) for (const prompt of promptsAt(frame)) drawPrompt(prompt);
  if (dragged) drawBox(dragged, chosenColour(), true);
}

export const wipeX = () => place.x + data.wipe * data.clip.width * place.scale;

function drawWipe(frame) {
  const x = wipeX() * ratio;
  context.save();
  context.beginPath();
  context.rect(x, 0, canvas.width - x, canvas.height);
  context.clip();
  look(frame, ...otherSide());
  context.restore();
  context.fillStyle = '#fff';
  context.fillRect(x - ratio / 2, place.y * ratio, ratio, data.clip.height * place.scale * ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const y = place.y + 14;
  const now = data.at.version ? `version ${data.at.version.number}` : 'this frame';
  label(now, wipeX() - 8, y, 'right');
  label(data.compare === 'plate' ? 'plate' : `version ${data.compare}`, wipeX() + 8, y, 'left');
  context.setTransform(1, 0, 0, 1, 0, 0);
}

function label(text, x, y, align, colour = '#fff') {
  context.font = '12px system-ui, sans-serif';
  context.textAlign = align;
  context.textBaseline = 'middle';
  const w = context.measureText(text).width;
  const left = align === 'right' ? x - w : x;
  context.fillStyle = 'rgb(20 20 20 / .75)';
  context.fillRect(left - 4, y - 9, w + 8, 18);
  context.fillStyle = colour;
  context.fillText(text, x, y + 1);
}

let dragged = null;
export function showDrag(box) { dragged = box; }
export const dragKey = () => dragged;
const chosenColour = () => (state().subjects.find((s) => s.id === data.subject) ?? state().subjects[0]).colour;

function drawBox(box, colour, dashed) {
  const [x0, y0] = toScreen(box[0], box[1]);
  const [x1, y1] = toScreen(box[2], box[3]);
  context.lineWidth = 3; context.strokeStyle = 'rgb(0 0 0 / .55)'; context.setLineDash([]);
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.lineWidth = 1.5; context.strokeStyle = colour; context.setLineDash(dashed ? [6, 4] : []);
  context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  context.setLineDash([]);
}

function drawPrompt(prompt) {
  const subject = state().subjects.find((s) => s.id === prompt.subject);
  if (!subject) return;
  const mine = subject.id === data.subject;
  context.globalAlpha = mine ? 1 : 0.6;
  if (prompt.box) {
    drawBox(prompt.box, subject.colour, false);
    const [x0, y0] = toScreen(prompt.box[0], prompt.box[1]);
    const [x1, y1] = toScreen(prompt.box[2], prompt.box[3]);
    context.fillStyle = subject.colour;
    if (mine) for (const [x, y] of [[x0, y0], [x1, y0], [x0, y1], [x1, y1]]) context.fillRect(x - 3, y - 3, 6, 6);
    if (state().subjects.length > 1) label(subject.name, x0 + 4, y0 - 11, 'left', subject.colour);
  }
  for (const [px, py, on] of prompt.points) {
    const [x, y] = toScreen(px, py);
    context.beginPath(); context.arc(x, y, 7, 0, 7); context.fillStyle = 'rgb(0 0 0 / .6)'; context.fill();
    context.beginPath(); context.arc(x, y, 5.5, 0, 7);
    context.fillStyle = on ? subject.colour : '#fff'; context.fill();
    context.strokeStyle = on ? '#111' : '#c22'; context.lineWidth = 1.6;
    context.beginPath(); context.moveTo(x - 3, y); context.lineTo(x + 3, y);
    if (on) { context.moveTo(x, y - 3); context.lineTo(x, y + 3); }
    context.stroke();
  }
  context.globalAlpha = 1;
}
