"use strict";
// Corrections: a box for a subject on a frame, whether it is ticked, and the command of all that are.

const data = JSON.parse(document.getElementById("data").textContent);
const [WIDTH, HEIGHT] = data.size;
const LEAST = 2; // pixels of a box's side; the program refuses smaller ones
const byId = (id) => document.getElementById(id);
const forAll = (selector, act) => document.querySelectorAll(selector).forEach(act);
const between = (value, low, high) => Math.min(Math.max(value, low), high);
const bar = byId("rerun");
const correctable = bar !== null;

// By frame and subject: {item, subject, box, origin, ticked}. `origin` is the frame that a proposed box is from.
const corrections = new Map();
const keyOf = (item, subject) => `${item.index}/${subject}`;
const correctionOf = (item, subject) => corrections.get(keyOf(item, subject));

for (const item of data.items) {
  if (item.proposal && correctable) {
    corrections.set(keyOf(item, item.subject), {
      item, subject: item.subject, box: item.proposal, origin: item.from, ticked: false,
    });
  }
}

function whole(box) {
  const [x0, y0, x1, y1] = box.map(Math.round);
  const left = between(Math.min(x0, x1), 0, WIDTH - LEAST), top = between(Math.min(y0, y1), 0, HEIGHT - LEAST);
  return [left, top, between(Math.max(x0, x1), left + LEAST, WIDTH), between(Math.max(y0, y1), top + LEAST, HEIGHT)];
}

// A box that the user sets is meant: it is ticked.
function setBox(item, subject, box) {
  corrections.set(keyOf(item, subject), { item, subject, box: whole(box), origin: null, ticked: true });
  showCorrections();
}

function tick(item, subject, ticked) {
  const found = correctionOf(item, subject);
  if (found) found.ticked = ticked;
  showCorrections();
}

const tickedOnes = () => [...corrections.values()].filter((each) => each.ticked).sort(
  (a, b) => a.item.index - b.item.index || a.subject - b.subject);

// As a POSIX shell reads them.
const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;

function keptPrompts(ticked) {
  const replaced = new Set(ticked.map((each) => keyOf(each.item, each.subject)));
  return data.rerun.prompts.filter((prompt) => !replaced.has(`${prompt.index}/${prompt.subject}`));
}

function optionsTyped(ticked) {
  const { file, prompts, subjects } = data.rerun, kept = keptPrompts(ticked);
  const fileHolds = prompts.every((prompt) => !prompt.ofFile || kept.includes(prompt));
  const own = kept.filter((prompt) => !(prompt.ofFile && fileHolds)).flatMap((prompt) => prompt.options);
  const added = ticked.flatMap((each) =>
    ["--prompt", `${subjects[each.subject].prefix}${each.item.number}:box=${each.box.join(",")}`]);
  return [...(fileHolds ? file : []), ...own, ...added];
}

function optionsOfFile(ticked) {
  const masks = keptPrompts(ticked).filter((prompt) => !prompt.toml).flatMap((prompt) => prompt.options);
  return [...masks, "--prompts", data.rerun.corrections];
}

function fileOf(ticked) {
  const tables = keptPrompts(ticked).map((prompt) => prompt.toml).filter(Boolean);
  for (const { item, subject, box } of ticked) {
    const named = data.rerun.subjects[subject].toml;
    tables.push(`[[prompt]]\nframe = ${item.number}\n${named ? named + "\n" : ""}box = [${box.join(", ")}]\n`);
  }
  return `version = 1\n\n${tables.join("\n")}`;
}

// A name that the command line cannot hold must stand in a file.
const mustBeFile = () => data.rerun.subjects.some((subject) => !subject.typed);
let asFile = correctable && mustBeFile();

function command() {
  const { before, after } = data.rerun, ticked = tickedOnes();
  const options = asFile ? optionsOfFile(ticked) : optionsTyped(ticked);
  return [...before, ...options, ...after].map(quoted).join(" ");
}

function nameOf({ item, subject }) {
  const names = data.rerun.subjects;
  return `${item.label}${names.length > 1 ? ` ${names[subject].name}` : ""}`;
}

function showBar() {
  const ticked = tickedOnes();
  bar.hidden = !ticked.length && !document.querySelector(".card");
  bar.classList.toggle("empty", !ticked.length);
  byId("count").textContent = ticked.length === 0 ? "No frame is ticked."
    : ticked.length === 1 ? "1 correction:" : `${ticked.length} corrections in one run:`;
  byId("ticked").textContent = ticked.length ? ticked.map(nameOf).join(", ")
    : "Tick the frames to correct; one command corrects them all.";
  byId("command").textContent = ticked.length ? command() : "";
  byId("download").hidden = !asFile;
  byId("download").textContent = `Download ${data.rerun.corrections}`;
  for (const button of bar.querySelectorAll("[data-form]")) {
    button.setAttribute("aria-pressed", String((button.dataset.form === "file") === asFile));
    button.disabled = mustBeFile() && button.dataset.form === "typed";
  }
}

function showCard(card) {
  const item = data.items[card.dataset.item], found = correctionOf(item, item.subject);
  const line = card.querySelector(".box"), box = card.querySelector("input");
  if (!correctable) {
    card.querySelector(".actions").hidden = true;
    return;
  }
  box.disabled = !found;
  box.checked = Boolean(found?.ticked);
  card.classList.toggle("ticked", box.checked);
  card.querySelector(".set").textContent = found ? "Change the box" : "Set the box";
  if (!found) {
    line.textContent = item.lost ? "Nothing was found here. If the subject is in sight, set its box."
      : "The last reliable box may be wrong here: set the box.";
  } else {
    line.textContent = `Box ${found.box.join(", ")}` + (found.origin === null ? "" : `, that of frame ${found.origin}`);
  }
  showDashed(card.querySelector("svg"), found?.box);
}

function showDashed(svg, box) {
  svg.querySelectorAll(".dashed").forEach((rect) => rect.remove());
  if (box) svg.append(rectangle("dashed under", box), rectangle("dashed", box));
}

function rectangle(name, [x0, y0, x1, y1]) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, value] of Object.entries({ class: name, x: x0, y: y0, width: x1 - x0, height: y1 - y0 })) {
    rect.setAttribute(key, value);
  }
  return rect;
}

function showCorrections() {
  forAll(".card", showCard);
  if (correctable) showBar();
  document.dispatchEvent(new Event("corrections"));
}

function wireBar() {
  for (const button of bar.querySelectorAll("[data-form]")) {
    button.addEventListener("click", () => { asFile = button.dataset.form === "file"; showBar(); });
  }
  byId("copy").addEventListener("click", async () => {
    getSelection().selectAllChildren(byId("command"));
    try {
      await navigator.clipboard.writeText(byId("command").textContent);
    } catch {
      document.execCommand("copy"); // a page opened from disk may lack the clipboard API
    }
    byId("copy").textContent = "Copied";
    setTimeout(() => { byId("copy").textContent = "Copy"; }, 1500);
  });
  byId("download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([fileOf(tickedOnes())], { type: "application/toml" }));
    link.download = data.rerun.corrections;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

forAll(".card", (card) => {
  const item = data.items[card.dataset.item];
  card.querySelector("input").addEventListener("change", (event) => tick(item, item.subject, event.target.checked));
});
if (correctable) wireBar();
