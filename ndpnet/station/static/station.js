"use strict";
// The station's page: no library, no build. Each part looks for what it works on and does nothing without it.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

function say(text) {
  const place = $("#said");
  place.textContent = text;
  place.hidden = !text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place.hidden = true; }, 5000);
}

// ---- the server, which may be away

function lost(isLost) { $("#lost").hidden = !isLost; }

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    lost(true);
    throw error;
  }
  lost(answer.status >= 500);
  if (answer.ok) return answer;
  if (answer.status === 401 && path !== "/login") location = "/login"; // a token has its end
  const reason = await answer.json().then((said) => said.error, () => answer.statusText);
  say(reason);
  throw new Error(reason);
}

async function post(path, body) {
  const answer = await ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  return answer.json();
}

// ---- who is at this machine

const nameField = $("#who");
const who = () => nameField ? nameField.value.trim() : "";
function isNamed() {
  if (!nameField || who()) return true;
  nameField.focus();
  say("Say who you are first, at the top.");
  return false;
}
if (nameField) {
  nameField.value = localStorage.getItem("who") || "";
  nameField.addEventListener("change", () => { localStorage.setItem("who", who()); startReview(); });
}

// ---- a picture with its heat map, contour and regions

const INFERNO = [[0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85], [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164]];
function colourOf(level) {
  const at = level / 255 * (INFERNO.length - 1), low = Math.min(Math.floor(at), INFERNO.length - 2), part = at - low;
  return INFERNO[low].map((value, k) => value + part * (INFERNO[low + 1][k] - value));
}
const COLOURS = Array.from({ length: 256 }, (_, level) => colourOf(level));

class Viewer {
  constructor(root) {
    this.root = root;
    this.image = $("img", root);
    this.canvas = $("canvas", root);
    this.brush = $(".brush", root) && new Brush(root);
    this.boxes = $("svg", root);
    this.grey = null;
    $$(".opacity, .contour, .boxes", root).forEach((input) => input.addEventListener("input", () => this.draw()));
    this.image.addEventListener("load", () => {
      this.image.style.visibility = "";
      if (this.brush) this.brush.start(this.image, this.picture);
      this.place();
    });
    this.image.addEventListener("error", () => { $(".gone", root).hidden = false; this.image.hidden = true; });
    addEventListener("resize", () => this.place());
    if (root.dataset.id) this.showId(root.dataset.id);
  }

  async showId(id) { this.show(await (await ask(`/api/pictures/${id}`)).json()); }

  async show(picture) {
    if (this.picture && this.picture.id === picture.id) return;
    this.picture = picture;
    this.grey = null;
    if (this.brush) this.brush.clear();
    $(".gone", this.root).hidden = true;
    this.image.hidden = false;
    this.image.style.visibility = "hidden"; // a browser shows the last picture until it has the next one
    const file = (kind) => `/pictures/${picture.id}/${kind}?of=${picture.received_at}`; // a new journal counts anew
    this.image.src = file("image");
    if (picture.has_map) {
      const map = new Image();
      map.src = file("map");
      try { await map.decode(); } catch { return; }
      if (this.picture !== picture) return;
      const copy = document.createElement("canvas");
      [copy.width, copy.height] = [map.width, map.height];
      const context = copy.getContext("2d", { willReadFrequently: true });
      context.drawImage(map, 0, 0);
      this.grey = context.getImageData(0, 0, map.width, map.height);
    }
    this.place();
    await this.image.decode().catch(() => {}); // else Live asks for the next one before, and shows none
  }

  // canvas and boxes lie exactly over the picture, whatever room is left beside it
  place() {
    const { naturalWidth: w, naturalHeight: h } = this.image;
    if (!w) return;
    const scale = Math.min(this.image.clientWidth / w, this.image.clientHeight / h);
    for (const layer of [...$$("canvas", this.root), this.boxes]) {
      layer.style.width = `${w * scale}px`;
      layer.style.height = `${h * scale}px`;
      layer.style.left = `${(this.image.clientWidth - w * scale) / 2}px`;
      layer.style.top = `${(this.image.clientHeight - h * scale) / 2}px`;
    }
    this.draw();
  }

  draw() {
    this.drawMap();
    this.drawBoxes();
  }

  drawMap() {
    const context = this.canvas.getContext("2d");
    if (!this.grey) { context.clearRect(0, 0, this.canvas.width, this.canvas.height); return; }
    const { width, height, data } = this.grey;
    [this.canvas.width, this.canvas.height] = [width, height];
    const drawn = context.createImageData(width, height);
    const opacity = $(".opacity", this.root).value / 100, withContour = $(".contour", this.root).checked;
    const isAbove = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[4 * (y * width + x)] >= 128;
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const at = 4 * (y * width + x), level = data[at];
        let [red, green, blue] = COLOURS[level], alpha = opacity * Math.min(255, 1.7 * level);
        // just outside what is above: a thin defect is not painted over
        if (withContour && level < 128 && (isAbove(x - 1, y) || isAbove(x + 1, y) || isAbove(x, y - 1) || isAbove(x, y + 1))) {
          [red, green, blue, alpha] = [255, 40, 90, 255];
        }
        drawn.data.set([red, green, blue, alpha], at);
      }
    }
    context.putImageData(drawn, 0, 0);
  }

  drawBoxes() {
    this.boxes.replaceChildren();
    const { width, height, regions } = this.picture || {};
    if (!width || !$(".boxes", this.root).checked) return;
    this.boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const size = width / Math.max(this.boxes.clientWidth, 1) * 13;
    for (const region of (regions || []).slice(0, 50)) {
      for (const name of ["under", "box"]) {
        const box = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        for (const [key, value] of Object.entries({ x: region.left, y: region.top, width: region.width, height: region.height, class: name })) box.setAttribute(key, value);
        this.boxes.append(box);
      }
      const text = document.createElementNS("http://www.w3.org/2000/svg", "text");
      const isHigh = region.top < 1.4 * size;
      for (const [key, value] of Object.entries({ x: Math.min(region.left, width - 9 * size), y: isHigh ? region.top + region.height + 1.1 * size : region.top - 0.3 * size, "font-size": size, "stroke-width": size / 5 })) text.setAttribute(key, value);
      text.textContent = `${region.score.toPrecision(3)}, ${region.area} px`;
      this.boxes.append(text);
    }
  }
}
// the area of the defect, painted over the picture by finger, pen or mouse, or taken from the heat map
class Brush {
  constructor(root) {
    this.root = root;
    this.canvas = $(".brush", root);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.last = null;
    $(".paint", root).addEventListener("change", (event) => root.classList.toggle("painting", event.target.checked));
    $(".clear", root).addEventListener("click", () => this.clear());
    $(".take", root).addEventListener("click", () => {
      if (!$(".paint", root).checked) $(".paint", root).click();
      this.take("map");
    });
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.last = this.placeOf(event);
      this.stroke(event);
    });
    this.canvas.addEventListener("pointermove", (event) => { if (this.last) (event.getCoalescedEvents?.() || [event]).forEach((each) => this.stroke(each)); });
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => { this.last = null; });
  }

  start(image, picture) {
    this.id = picture.id;
    [this.canvas.width, this.canvas.height] = [image.naturalWidth, image.naturalHeight];
    if (picture.opinions.some((each) => each.is_painted)) this.take("mask");
  }

  clear() { this.context.clearRect(0, 0, this.canvas.width, this.canvas.height); }

  scale() { return this.canvas.width / this.canvas.getBoundingClientRect().width; }

  placeOf(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * this.scale(), (event.clientY - box.top) * this.scale()];
  }

  stroke(event) {
    const place = this.placeOf(event);
    this.context.globalCompositeOperation = $(".rub", this.root).checked ? "destination-out" : "source-over";
    this.context.strokeStyle = "#00e5ff";
    this.context.lineCap = "round";
    this.context.lineWidth = $(".width", this.root).value * this.scale();
    this.context.beginPath();
    this.context.moveTo(...this.last);
    this.context.lineTo(...place);
    this.context.stroke();
    this.context.globalCompositeOperation = "source-over";
    this.last = place;
  }

  // what is bright in the heat map, or in the area that was painted before
  async take(kind) {
    const id = this.id, source = new Image();
    source.src = `/pictures/${id}/${kind}?at=${Date.now()}`; // not as it was before
    try { await source.decode(); } catch { return; }
    if (this.id !== id) return;
    const { width, height } = this.canvas;
    this.context.drawImage(source, 0, 0, width, height);
    const area = this.context.getImageData(0, 0, width, height);
    for (let at = 0; at < area.data.length; at += 4) area.data.set(area.data[at] >= 128 ? [0, 229, 255, 255] : [0, 0, 0, 0], at);
    this.context.putImageData(area, 0, 0);
  }

  // white on black in base64; null: nothing is painted
  png() {
    const { width, height } = this.canvas, whole = document.createElement("canvas");
    if (!this.context.getImageData(0, 0, width, height).data.some((value) => value)) return null;
    [whole.width, whole.height] = [width, height];
    const context = whole.getContext("2d");
    context.fillRect(0, 0, width, height);
    context.drawImage(this.canvas, 0, 0);
    return whole.toDataURL("image/png").split(",")[1];
  }
}
const viewers = $$(".viewer").map((root) => new Viewer(root));

// ---- parts of a page that change by themselves

const facts = $("#facts");
async function refreshFacts() {
  const answer = await ask(facts.dataset.refresh);
  facts.innerHTML = await answer.text();
  const last = $("[data-last]", facts);
  if (last) await viewers[0].showId(last.dataset.last);
}
async function refreshHealth() {
  if ($("#health input:focus") || $$("#health input").some((input) => input.value)) return;
  const answer = await ask("/health");
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = $("#health", page);
  if (fresh) { $("#health").replaceWith(fresh); listenToReasons(); }
}
function repeat(step, milliseconds) {
  const next = () => setTimeout(async () => {
    try { if (!document.hidden) await step(); } catch { /* the banner says so */ }
    next();
  }, milliseconds);
  next();
}
if (facts) repeat(refreshFacts, 1000);
if ($("#health")) repeat(refreshHealth, 5000);

// ---- what a person says of a picture

const reviewing = $("#reviewing");
let current = null, previous = null, turn = 0; // an answer that comes after the next question is not shown

function showReview(picture, number) {
  current = picture;
  reviewing.hidden = !picture;
  $("#nothing").hidden = Boolean(picture);
  $("#undo").hidden = !previous;
  if (!picture) return;
  viewers[0].show(picture);
  const verdict = $(".verdict", reviewing);
  verdict.className = `verdict ${picture.verdict}`;
  $(".word", verdict).textContent = picture.verdict;
  $(".reason", verdict).textContent = picture.error || `score ${picture.score.toPrecision(4)}, threshold ${picture.threshold.toPrecision(4)}`;
  $("#about").textContent = `${picture.name} · ${picture.line}`;
  $("#opinions").replaceChildren(...picture.opinions.map((each) => {
    const item = document.createElement("li");
    item.textContent = `${each.label}, ${each.who}${each.is_painted ? ", area painted" : ""}`;
    return item;
  }));
  $("#left").textContent = number === undefined ? "" : `${number} wait for a person.`;
}

async function nextReview() {
  const asked = ++turn;
  const { picture, num } = await (await ask(`/api/review/next?who=${encodeURIComponent(who())}`)).json();
  if (asked === turn) showReview(picture, num);
}

function startReview() {
  if (!reviewing || !$("#readonly").hidden) return;
  $("#nameless").hidden = !nameField || Boolean(who());
  if ($("#nameless").hidden) nextReview();
}
startReview();
if (reviewing) repeat(async () => { if (!current && $("#nameless").hidden && $("#readonly").hidden) await nextReview(); }, 2000);

async function label(id, word) {
  if (!isNamed()) return;
  const brush = viewers[0].brush, mask = word === "defective" && brush ? brush.png() : null;
  await post(`/api/pictures/${id}/review`, { label: word, who: who(), mask });
  if (!reviewing) { location.reload(); return; }
  previous = current;
  $("#undo").hidden = false;
  say(`${previous.name}: ${word}`);
  await nextReview();
}
async function undo() {
  if (!previous) return;
  turn++;
  const answer = await ask(`/api/pictures/${previous.id}`);
  previous = null;
  showReview(await answer.json());
}
$$(".labels button").forEach((button) => button.addEventListener("click", () => {
  const id = button.parentElement.dataset.id || (current && current.id);
  if (id) label(id, button.dataset.label);
}));
if ($("#undo")) $("#undo").addEventListener("click", (event) => { event.preventDefault(); undo(); });

// ---- another threshold

const slider = $("#threshold");
const chosen = () => Number(slider.dataset.moved ? slider.value : slider.dataset.now); // a slider rounds
function showThreshold() {
  const scores = $("#scores"), low = Number(scores.dataset.low), high = Number(scores.dataset.high);
  const x = 400 * (chosen() - low) / (high - low);
  $("#mark").setAttribute("x1", x);
  $("#mark").setAttribute("x2", x);
  $("#value").textContent = chosen().toPrecision(4);
}
const tenth = (x) => (x % 1 === 0.25 ? x - 0.05 : x).toFixed(1); // Python rounds halves to the even digit
const percent = (share) => share === null ? "not known" : `${share >= 0.01 || share === 0 ? tenth(100 * share) : Number((100 * share).toPrecision(2))} %`;
async function showConsequences() {
  const answer = await ask(`/api/lines/${slider.dataset.line}/whatif?threshold=${chosen()}`);
  const follows = await answer.json();
  if (follows.threshold !== chosen()) return; // the slider has moved meanwhile
  for (const cell of $$("[data-pair]")) {
    const [number, total] = follows[cell.dataset.pair];
    cell.textContent = total ? `${number} of ${total} (${percent(number / total)})` : "no such picture";
  }
  $("[data-promised]").textContent = percent(follows.promised_rate);
}
if (slider) {
  let timer;
  slider.addEventListener("input", () => {
    slider.dataset.moved = "yes";
    showThreshold();
    clearTimeout(timer);
    timer = setTimeout(showConsequences, 120);
  });
  showThreshold();
  showConsequences();
}
if ($("#use")) $("#use").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!isNamed()) return;
  const form = event.currentTarget, isOwn = event.submitter && event.submitter.name === "own";
  await post(`/api/lines/${form.dataset.line}/threshold`, { value: isOwn ? null : chosen(), reason: form.reason.value, who: who(), model: form.dataset.model });
  setTimeout(() => location.reload(), 700); // the judge takes it between two pictures
});

function listenToReasons() {
  for (const action of ["acknowledge", "retrain"]) $$(`.${action}`).forEach((form) => form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!isNamed()) return;
    await post(`/api/lines/${form.dataset.line}/${action}`, { reason: form.reason.value, who: who() });
    location.reload();
  }));
}
listenToReasons();

if ($("#login")) $("#login").addEventListener("submit", async (event) => {
  event.preventDefault();
  await post("/login", { token: event.currentTarget.token.value });
  location = "/";
});

// ---- keys

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea")) return;
  const press = (selector) => { const found = $(selector); if (found) { found.click(); event.preventDefault(); } };
  const actions = {
    g: () => press('[data-label="good"]'),
    d: () => press('[data-label="defective"]'),
    c: () => press('[data-label="cannot tell"]'),
    u: () => press("#undo:not([hidden])"),
    m: () => press(".contour"),
    r: () => press(".boxes"),
    p: () => press(".paint"),
    t: () => press(".take"),
    ArrowLeft: () => event.target.type === "range" || press("[rel=prev]"),
    ArrowRight: () => event.target.type === "range" || press("[rel=next]"),
  };
  if (/^[1-5]$/.test(event.key)) press(`nav a:nth-of-type(${event.key})`);
  else if (actions[event.key]) actions[event.key]();
});
