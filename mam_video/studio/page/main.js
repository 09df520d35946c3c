// The page: loads a shot, follows events, draws what has changed, and hands the artist's acts to the server.
import * as addresses from '/page/addresses.js';
import { drawHints } from '/page/hints.js';
import * as knobs from '/page/knobs.js';
import { byId, make } from '/page/make.js';
import { events, send, sendFile, table } from '/page/net.js';
import * as pictures from '/page/pictures.js';
import { attachPointer, readAgain } from '/page/pointer.js';
import * as point from '/page/point.js';
import * as run from '/page/run.js';
import { attachKeys } from '/page/keys.js';
import { called, changed, chosen, count, data, flaggedFrames, listen, promptsAt, recordsChanged, state } from '/page/store.js';
import * as timeline from '/page/timeline.js';
import * as view from '/page/view.js';

const AHEAD = 12;

// Acts

async function act(name, given = {}) {
  if (name === 'set_box' || name === 'add_point' || name === 'remove_point' || name === 'find') data.making.add(given.frame);
  try {
    took(await send(`/api/${data.clip.shot}/act`, { act: name, ...given }));
  } catch (error) {
    data.making.delete(given.frame);
    note(error.message);
    changed();
  }
}

// A picture from the artist's disk shows the subject on this frame.
async function sendMask(file) {
  if (!file) return;
  const { frame } = data;
  data.making.add(frame);
  changed();
  try {
    took(await sendFile(`/api/${data.clip.shot}/mask/${frame}?subject=${chosen().id}`, file));
  } catch (error) {
    data.making.delete(frame);
    note(error.message);
    changed();
  }
}

async function runShot(given) {
  try {
    data.desk.runs = (await send('/api/queue', given)).runs;
    note('');
  } catch (error) { note(error.message); }
  changed();
}

async function stopRun(number) {
  try { data.desk.runs = (await send('/api/queue', { stop: number })).runs; } catch (error) { note(error.message); }
  changed();
}

let noteTimer = 0;
function note(text) {
  clearTimeout(noteTimer);
  byId('banner').textContent = text;
  byId('banner').hidden = text === '';
  if (text) noteTimer = setTimeout(() => note(''), 7000);
}

// A new summary of the shot.
function took(summary) {
  if (!data.clip || summary.shot !== data.clip.shot) return;
  const before = data.at?.version?.number;
  data.at = summary;
  data.edges = null;
  if (!state().subjects.some((s) => s.id === data.subject)) data.subject = state().subjects[0].id;
  if (summary.version?.number !== before) loadRecords(summary.version?.number);
  else if (!summary.running && data.live.size) { data.live.clear(); recordsChanged(); }
  else if (summary.running && data.live.size < summary.running.matted) loadLive(summary.running.version);
  drawCompare();
  changed();
}

async function loadRecords(number) {
  const found = number === undefined ? { records: [] } : await table(`/api/${data.clip.shot}/version/${number}`);
  data.records = new Map(found.records.map((record) => [record.frame, record]));
  if (!data.at.running) data.live.clear();
  recordsChanged();
}

async function loadLive(number) {
  try {
    const found = await table(`/api/${data.clip.shot}/version/${number}`);
    for (const record of found.records) data.live.set(record.frame, record);
    recordsChanged();
  } catch { /* it has just ended */ }
}

// Moving about

function go(frame) {
  const next = Math.min(Math.max(Math.round(frame), 0), count() - 1);
  if (next === data.frame || Number.isNaN(next)) return;
  data.frame = next;
  data.edges = null;
  changed();
}

function choose(subject) { data.subject = subject; data.edges = null; changed(); }

function jumpFlag(direction) {
  const flags = flaggedFrames();
  const found = direction > 0 ? flags.find((k) => k > data.frame) ?? flags[0]
    : flags.findLast((k) => k < data.frame) ?? flags.at(-1);
  if (found === undefined) note('no frame is flagged');
  else go(found);
}

function setSpan(end) {
  const [first, last] = state().span ?? [0, count() - 1];
  const span = end === 'in' ? [data.frame, Math.max(data.frame, last)] : [Math.min(first, data.frame), data.frame];
  act('set_span', { span: span[0] === 0 && span[1] === count() - 1 ? null : span });
}

// Playing: frames come at the clip's rate, as far as they are fetched.

let begun = { at: 0, frame: 0 };
function play(speed) {
  data.speed = speed;
  begun = { at: performance.now(), frame: data.frame };
  if (speed !== 0) requestAnimationFrame(tick);
  changed();
}

function tick(now) {
  if (data.speed === 0) return;
  const due = begun.frame + Math.trunc((now - begun.at) / 1000 * data.clip.rate * data.speed);
  const sign = Math.sign(data.speed);
  let next = data.frame;
  while (next !== due && next + sign >= 0 && next + sign < count() && isReady(next + sign)) next += sign;
  if (next !== due) begun = { at: now, frame: next };     // not fetched yet: wait, do not skip
  if (next !== data.frame) { data.frame = next; changed(); }
  if ((sign > 0 && next >= count() - 1) || (sign < 0 && next <= 0)) play(0);
  else requestAnimationFrame(tick);
}

const isReady = (frame) => addressesOf(frame, false).every((address) => pictures.has(address));

// What a frame needs to be shown as the view asks.
function addressesOf(frame, full) {
  const found = [];
  const add = (viewed, version) => {
    if (viewed !== 'alpha') found.push(addresses.plate(frame, full));
    if (viewed === 'alpha' || viewed === 'over') found.push(addresses.matte(frame, null, version, full));
    if (viewed === 'over' && addresses.chosenBackground() !== null) found.push(addresses.background(frame, addresses.chosenBackground()));
    if (viewed === 'outline') for (const s of state().subjects) found.push(addresses.matte(frame, s.id, version, full));
  };
  add(data.view, '');
  if (data.compare === 'plate') add('plate', '');
  else if (data.compare !== '') add(data.view === 'plate' ? 'outline' : data.view, data.compare);
  return [...new Set(found)];
}

function fetchAhead() {
  const wanted = [...addressesOf(data.frame, false)];
  if (data.onion && data.frame > 0) wanted.push(addresses.plate(data.frame - 1, false));
  if (view.needsFull() && data.speed === 0) wanted.push(...addressesOf(data.frame, true));
  const [ahead, behind] = data.speed < 0 ? [2, AHEAD] : data.speed > 0 ? [AHEAD, 1] : [6, 4];
  for (let k = 1; k <= AHEAD; k++) {
    if (k <= ahead && data.frame + k < count()) wanted.push(...addressesOf(data.frame + k, false));
    if (k <= behind && data.frame - k >= 0) wanted.push(...addressesOf(data.frame - k, false));
  }
  pictures.want(wanted);
}

// Drawing

function drawCompare() {
  const select = byId('compare');
  const numbers = data.at.versions.filter((n) => n !== data.at.version?.number);
  const wanted = ['', 'plate', ...numbers.map(String)];
  if (!wanted.includes(data.compare)) data.compare = '';
  const names = { '': 'compare: off', plate: 'with the plate' };
  select.replaceChildren(...wanted.map((value) => make('option', {
    value, textContent: names[value] ?? `with version ${value}`, selected: value === data.compare,
  })));
}

function drawTop() {
  const { clip } = data;
  byId('name').textContent = clip.name;
  byId('name').title = clip.notes.join('\n');
  byId('facts').textContent = `${clip.width}×${clip.height}, ${Number(clip.rate.toPrecision(6))} fps, ${count()} frames`;
  for (const button of document.querySelectorAll('[data-view]')) button.setAttribute('aria-pressed', button.dataset.view === data.view);
  byId('backdrop').disabled = data.view !== 'over';
  byId('colour').hidden = byId('backdrop').value !== 'colour' || data.view !== 'over';
  byId('onion').checked = data.onion;
  byId('zoom').textContent = `${Math.round(view.place.scale * 100)} %`;
  byId('undo').disabled = data.at.undo === null;
  byId('undo').title = data.at.undo === null ? 'Nothing to undo' : `Undo: ${data.at.undo} (Ctrl+Z)`;
  byId('redo').disabled = data.at.redo === null;
  byId('redo').title = data.at.redo === null ? 'Nothing to redo' : `Redo: ${data.at.redo} (Ctrl+Shift+Z)`;
}

function drawBottom() {
  byId('play').textContent = data.speed === 0 ? '▶' : '⏸';
  byId('play').setAttribute('aria-label', data.speed === 0 ? 'Play' : 'Stop');
  if (document.activeElement !== byId('frame')) byId('frame').value = called(data.frame);
  const seconds = data.frame / data.clip.rate;
  byId('timecode').textContent = `${String(Math.floor(seconds / 60)).padStart(2, '0')}:${(seconds % 60).toFixed(2).padStart(5, '0')}`;
  const flags = flaggedFrames().length;
  byId('flag-back').disabled = byId('flag-next').disabled = flags === 0;
  byId('flag-next').textContent = flags ? `flag › ${flags}` : 'flag ›';
  const indexed = data.at.indexed < data.at.count ? `reading the clip ${Math.round(100 * data.at.indexed / data.at.count)} %` : '';
  byId('model').textContent = indexed || (data.model === 'loading' ? 'loading the model…' : data.model);
}

// All that the picture depends on: it is drawn only where this has changed.
function pictureKey() {
  const { frame, backdrop, onion, compare, other, wipe, speed, subject } = data;
  const there = [...addressesOf(frame, false), ...(view.needsFull() ? addressesOf(frame, true) : [])].map((a) => [a, pictures.has(a)]);
  const before = onion && frame > 0 && pictures.has(addresses.plate(frame - 1, false));
  return JSON.stringify([
    frame, data.view, backdrop, before, compare, other, wipe, speed !== 0, subject, view.place, there, promptsAt(frame), state().subjects,
    view.dragKey(), byId('panel-point').hidden, document.documentElement.dataset.theme, data.at.version?.number,
  ]);
}

let drawn = '';
let panelsDue = 0;
function drawAll() {
  if (!data.at) return;
  fetchAhead();
  const key = pictureKey();
  if (key !== drawn) { view.draw(); drawn = key; }
  timeline.resize();
  timeline.draw();
  drawTop();
  drawBottom();
  drawHints();
  // While frames come in, the panels follow a few times a second.
  if (data.at.running || data.speed !== 0) panelsDue ||= setTimeout(drawPanels, 150); else drawPanels();
  if (isReady(data.frame)) window.studio.shown = { frame: data.frame, stills: data.stills.get(data.frame) ?? 0, at: performance.now() };
}

function drawPanels() {
  clearTimeout(panelsDue);
  panelsDue = 0;
  const open = (id) => !byId(id).hidden;
  if (open('panel-point')) point.draw(act, go, choose);
  if (open('panel-finish') || open('panel-settings')) knobs.draw();
  if (open('panel-run')) run.draw(act, stopRun);
}

// Trying an edge setting: the frame is fetched with it, the last one wanted only.
function tried(name, value) { data.edges = { ...data.edges, [name]: value }; changed(); }

// Events of the server

let refreshing = false;
let again = false;
async function refresh() {
  if (refreshing) { again = true; return; }
  refreshing = true;
  do {
    again = false;
    try { took(await table(`/api/${data.clip.shot}/state`)); } catch (error) { note(error.message); }
  } while (again);
  refreshing = false;
}

function heard(entry) {
  const mine = entry.shot === undefined || entry.shot === data.clip?.shot;
  if (entry.event === 'runs') {
    data.desk.runs = entry.runs;
    const ended = (r) => r.shot === data.clip?.shot && (r.how === 'done' || r.how === 'flagged');
    if (data.at && !data.at.report && entry.runs.some(ended)) refresh();
    if (entry.runs.some((r) => r.shot === data.clip?.shot && r.how !== 'waiting')) changed();
  } else if (entry.event === 'model') data.model = entry.ready ? '' : entry.message;
  else if (!mine || !data.at) return;
  else if (entry.event === 'changed' || entry.event === 'missed') refresh();
  else if (entry.event === 'indexed') { data.at.indexed = entry.ended ? entry.count : entry.indexed; data.at.count = entry.count; }
  else if (entry.event === 'still') {
    if (entry.ended) { data.making.delete(entry.frame); data.stills.set(entry.frame, (data.stills.get(entry.frame) ?? 0) + 1); readAgain(); } else data.making.add(entry.frame);
    if (entry.message) note(entry.message);
  } else if (entry.event === 'frame' && data.at.running) {
    data.live.set(entry.record.frame, entry.record);
    recordsChanged();
    data.at.running.matted = data.live.size;
  } else if (entry.event === 'tracked' && data.at.running) data.at.running.tracked = entry.tracked;
  else if (entry.event === 'ended' && entry.message) note(entry.message);
  changed();
}

// What happened before the socket was open was not heard: ask for all of it once.
async function joined(open) {
  if (open) {
    if (!data.joined) note('');
    try {
      data.desk = await table('/api/desk');
      data.model = data.desk.model;
      await refresh();
    } catch (error) { note(error.message); }
  }
  if (!open) note('The server has ended. Start mam-video studio again and open the address that it prints.');
  data.joined = open;
}

// Loading

async function load(shot) {
  data.clip = await table(`/api/${shot}/clip`);
  data.records.clear(); data.live.clear(); data.stills.clear(); data.making.clear(); recordsChanged();
  data.at = null; data.frame = 0; data.compare = ''; data.speed = 0;
  took(await table(`/api/${shot}/state`));
  document.title = `${data.clip.name} – mam-video studio`;
  view.resize(); view.fit(); timeline.resize();
  changed();
}

function attach() {
  const press = (id, done) => byId(id).addEventListener('click', done);
  for (const button of document.querySelectorAll('[data-view]')) button.addEventListener('click', () => { data.view = button.dataset.view; changed(); });
  byId('backdrop').addEventListener('change', setBackdrop);
  byId('colour').addEventListener('input', setBackdrop);
  byId('onion').addEventListener('change', () => { data.onion = byId('onion').checked; changed(); });
  byId('compare').addEventListener('change', () => { data.compare = byId('compare').value; data.other = false; changed(); });
  press('fit', () => { view.fit(); changed(); });
  press('full', () => { view.zoomTo(1 / (window.devicePixelRatio || 1)); changed(); });
  press('undo', () => act('undo')); press('redo', () => act('redo'));
  press('first', () => go(0)); press('last', () => go(count() - 1));
  press('back', () => go(data.frame - 1)); press('next', () => go(data.frame + 1));
  press('play', () => play(data.speed === 0 ? 1 : 0));
  press('flag-next', () => jumpFlag(1)); press('flag-back', () => jumpFlag(-1));
  press('in', () => setSpan('in')); press('out', () => setSpan('out'));
  press('span-clear', () => act('set_span', { span: null }));
  press('add-subject', async () => { await act('add_subject'); choose(state().subjects.at(-1).id); });
  press('add-mask', () => byId('mask-file').click());
  byId('mask-file').addEventListener('change', (event) => { sendMask(event.target.files[0]); event.target.value = ''; });
  byId('words').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || !event.target.value.trim()) return;
    act('find', { subject: chosen().id, frame: data.frame, words: event.target.value });
    event.target.blur();
  });
  press('track', () => act('track')); press('stop', () => act('stop'));
  press('run', () => runShot({ shot: data.clip.shot })); press('run-all', () => runShot({ all: true }));
  press('copy', () => navigator.clipboard?.writeText(data.at.command));
  press('help', () => byId('keys').showModal());
  press('theme', () => setTheme(document.documentElement.dataset.theme === 'light' ? 'dark' : 'light'));
  byId('replace').addEventListener('change', (e) => act('set_setting', { key: 'output.overwrite', value: e.target.checked }));
  byId('frame').addEventListener('change', () => go(Number(byId('frame').value) - called(0)));
  byId('shots').addEventListener('change', () => load(Number(byId('shots').value)));
  for (const tab of document.querySelectorAll('[role="tab"]')) tab.addEventListener('click', () => openTab(tab));
  document.querySelector('.tabs').addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = [...document.querySelectorAll('[role="tab"]')];
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    openTab(next); next.focus(); event.stopPropagation(); event.preventDefault();
  });
  new ResizeObserver(() => { view.resize(); timeline.resize(); drawn = ''; drawAll(); }).observe(byId('stage'));
  const hold = byId('timeline');
  const scrub = (event) => { if (event.buttons & 1) { if (data.speed) play(0); go(timeline.frameAt(event.offsetX)); } };
  hold.addEventListener('pointerdown', (event) => { hold.setPointerCapture(event.pointerId); scrub(event); });
  hold.addEventListener('pointermove', scrub);
}

function openTab(tab) {
  for (const each of document.querySelectorAll('[role="tab"]')) {
    each.setAttribute('aria-selected', each === tab);
    each.tabIndex = each === tab ? 0 : -1;
    byId(each.getAttribute('aria-controls')).hidden = each !== tab;
  }
  if (tab.id === 'tab-finish' && data.view === 'outline') data.view = 'over';
  changed();
}

function setBackdrop() {
  const value = byId('backdrop').value;
  data.backdrop = value === 'colour' ? byId('colour').value : value;
  data.view = 'over';
  changed();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem('theme', theme); } catch { /* not kept */ }
  changed();
}

async function begin() {
  let theme = null;
  try { theme = localStorage.getItem('theme'); } catch { /* not kept */ }
  setTheme(theme ?? (matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark'));
  const [desk, lists] = await Promise.all([table('/api/desk'), table('/api/knobs')]);
  data.desk = desk;
  data.model = desk.model;
  Object.assign(data, lists);
  const select = byId('shots');
  select.replaceChildren(...desk.shots.map((name, k) => make('option', { value: k, textContent: name })));
  byId('backdrop').querySelector('[value="colour"]').before(...desk.backgrounds.map(({ name }, k) => make('option', { value: `file:${k}`, textContent: name })));
  byId('words').hidden = !desk.words;
  select.hidden = byId('run-all').hidden = desk.shots.length < 2;
  attach();
  attachPointer({ act, note });
  attachKeys({ act, go, play, jumpFlag, setSpan, setBackdrop });
  listen(drawAll);
  pictures.onArrival(changed);
  await load(0);
  knobs.build(act, tried);
  events(heard, joined);
}

// For tests and measurements.
window.studio = { data, pictures, place: view.place, shown: null, ready: () => data.at !== null && isReady(data.frame) };
begin().catch((error) => note(error.message));
