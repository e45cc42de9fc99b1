"use strict";
const $ = (id) => document.getElementById(id);
const KEYS = { y: "success", n: "failure", u: "unscorable" };
const PAUSE = 0.8; // seconds on the last frame
const LASTS = 3; // seconds that a clip takes at least: an episode may be over in one
const LOOK = 5000; // milliseconds between two looks for new clips

let clips = []; // { clip, verdict } in the order in which they are shown, with what is unreadable about it
let place = 0; // of the clip that is shown; beyond the last: none
let trail = []; // places that were judged in this sitting, for going back
let film = null; // { frames, fps } of the clip that is shown
let shown = 0; // frame
let playing = true;
let since = 0; // when the frame was put up
let busy = false; // a verdict is on its way
const waiting = new Map(); // promises of clips by hash

const fetched = async (path, options) => {
  const response = await fetch(path, options);
  const value = await response.json();
  if (!response.ok) throw new Error(value.error || response.statusText);
  return value;
};

const picture = (url) => new Promise((done, failed) => {
  const image = new Image();
  image.onload = () => done(image);
  image.onerror = () => failed(new Error("a frame cannot be shown"));
  image.src = url;
});

const load = (name) => {
  if (!waiting.has(name)) {
    const film = fetched(`clip/${name}`).then(async (clip) => (
      clip.unreadable ? clip : { ...clip, frames: await Promise.all(clip.frames.map(picture)) }
    ));
    film.catch(() => waiting.delete(name));
    waiting.set(name, film);
  }
  return waiting.get(name);
};

const complain = (error) => {
  $("trouble").textContent = error ? `${error.message || error}` : "";
  $("trouble").hidden = !error;
};

const draw = () => {
  const screen = $("screen");
  screen.getContext("2d").drawImage(film.frames[shown], 0, 0, screen.width, screen.height);
  $("step").value = shown;
  $("now").textContent = `${shown + 1} / ${film.frames.length}`;
};

const seek = (frame) => {
  if (!film) return;
  shown = Math.max(0, Math.min(film.frames.length - 1, frame));
  since = performance.now();
  draw();
};

const play = (on) => {
  playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  since = performance.now();
};

const tick = (now) => {
  if (film && playing) {
    const last = shown === film.frames.length - 1;
    const each = Math.max(1 / film.fps, LASTS / film.frames.length);
    if (now - since > 1000 * (last ? Math.max(PAUSE, each) : each)) seek(last ? 0 : shown + 1);
  }
  requestAnimationFrame(tick);
};

const fit = () => {
  if (!film) return;
  const { naturalWidth: width, naturalHeight: height } = film.frames[0];
  const room = Math.max(180, Math.min(560, innerHeight - 350)); // leaves room for the verdicts
  const scale = Math.min($("stage").clientWidth / width, room / height);
  const sharp = devicePixelRatio || 1;
  const screen = $("screen");
  screen.style.width = `${width * scale}px`;
  screen.style.height = `${height * scale}px`;
  screen.width = Math.round(width * scale * sharp);
  screen.height = Math.round(height * scale * sharp);
  screen.getContext("2d").imageSmoothingQuality = "high";
  draw();
};

const unreadable = () => clips.filter((clip) => clip.unreadable && !clip.verdict).map((clip) => clip.unreadable);

const tell = () => {
  const done = clips.filter((clip) => clip.verdict).length;
  $("bar").style.width = clips.length ? `${(100 * done) / clips.length}%` : "0";
  const words = [place < clips.length ? `Clip ${place + 1} of ${clips.length}` : "", `${done} of ${clips.length} judged`];
  if (unreadable().length) words.push(`${unreadable().length} unreadable`);
  $("progress").replaceChildren(...words.map((text) => Object.assign(document.createElement("span"), { textContent: text })));
  for (const verdict of Object.values(KEYS)) {
    $(verdict).classList.toggle("said", clips[place]?.verdict === verdict);
    $(verdict).setAttribute("aria-pressed", clips[place]?.verdict === verdict);
  }
  for (const id of ["back", "over-back"]) $(id).disabled = trail.length === 0 && done === 0;
};

const waits = (clip) => !clip.verdict && !clip.unreadable;

const next = () => {
  const open = clips.findIndex((clip, index) => index > place && waits(clip));
  place = open >= 0 ? open : clips.findIndex(waits);
  if (place < 0) place = clips.length;
};

const show = async () => {
  const here = place;
  film = null;
  tell();
  $("stage").hidden = here >= clips.length;
  $("over").hidden = here < clips.length;
  if (here >= clips.length) {
    const damaged = unreadable();
    const title = damaged.length ? "All clips that can be read are judged." : "All clips are judged.";
    $("over-title").textContent = clips.length ? title : "No clips are waiting.";
    $("over-text").textContent = clips.length
      ? [`${clips.length - damaged.length} of ${clips.length} are saved. New ones appear here by themselves.`, ...damaged].join(" ")
      : "They come here when a judge of kind “human” meets a clip that nobody has judged.";
    return;
  }
  try {
    const loaded = await load(clips[here].clip);
    if (place !== here) return;
    if (loaded.unreadable) { // one damaged file stops nobody
      clips[here].unreadable = loaded.unreadable;
      next();
      return show();
    }
    film = loaded;
    shown = 0;
    $("instruction").textContent = film.instruction || "(no instruction)";
    $("step").max = film.frames.length - 1;
    play(true);
    fit();
    complain(null);
  } catch (error) {
    complain(error);
  }
  for (const name of waiting.keys()) if (name !== clips[here].clip) waiting.delete(name);
  const after = clips.slice(here + 1).find(waits);
  if (after) load(after.clip).catch(() => {});
};

const say = async (verdict) => {
  if (busy || !film) return;
  busy = true;
  const clip = clips[place];
  try {
    const body = JSON.stringify({ clip: clip.clip, verdict });
    await fetched("label", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    clip.verdict = verdict;
    trail.push(place);
    complain(null);
    next();
    await show();
  } catch (error) {
    complain(`Not saved: ${error.message}. Is v2w label still running? Press the key again.`);
  } finally {
    busy = false;
  }
};

const back = () => {
  if (busy) return;
  const judged = clips.map((clip, index) => (clip.verdict ? index : -1)).filter((index) => index >= 0 && index !== place);
  const before = trail.length ? trail.pop() : judged.pop();
  if (before === undefined) return;
  place = before;
  show();
};

const look = async () => {
  try {
    const found = (await fetched("clips")).clips;
    const known = new Set(clips.map((clip) => clip.clip));
    const fresh = found.filter((clip) => !known.has(clip.clip));
    const idle = place >= clips.length;
    clips.push(...fresh);
    if (idle && fresh.length) {
      place = -1;
      next();
      await show();
    } else tell();
  } catch (error) {
    complain(`${error.message}. Is v2w label still running?`);
  }
  setTimeout(look, LOOK);
};

addEventListener("keydown", (event) => {
  if (event.repeat && !event.key.startsWith("Arrow")) return;
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return; // it presses the button
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = {
    Backspace: back,
    b: back,
    ArrowLeft: () => { play(false); seek(shown - 1); },
    ArrowRight: () => { play(false); seek(shown + 1); },
    " ": () => play(!playing),
  }[key] || (KEYS[key] && (() => say(KEYS[key])));
  if (!act) return;
  event.preventDefault();
  act();
});
for (const verdict of Object.values(KEYS)) $(verdict).addEventListener("click", () => say(verdict));
for (const id of ["back", "over-back"]) $(id).addEventListener("click", back);
$("play").addEventListener("click", () => play(!playing));
$("step").addEventListener("input", () => { play(false); seek(Number($("step").value)); });
// after a click the keyboard belongs to the clip again, and the next space plays it
addEventListener("click", (event) => { if (event.detail > 0) event.target.closest("button")?.blur(); });
addEventListener("resize", fit);
requestAnimationFrame(tick);
fetched("clips").then((queue) => {
  clips = queue.clips;
  place = -1;
  next();
  return show();
}).catch(complain).then(() => setTimeout(look, LOOK));
