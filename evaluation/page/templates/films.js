"use strict";
(() => {
  const reel = JSON.parse(document.getElementById("reel").textContent);
  const find = (id) => document.getElementById(id);
  const shown = { a: reel.first[0], b: reel.first[1], start: 0, step: 0 };
  const pictures = new Map();
  let timer = null;

  const film = (side) => reel.films[shown.start][shown[side]];
  const last = () => Math.max(film("a").frames, film("b").frames) - 1;
  const parting = () => {
    const low = Math.min(shown.a, shown.b), high = Math.max(shown.a, shown.b);
    return low === high ? null : reel.partings[shown.start][low][high - low - 1];
  };

  function picture(one) {
    if (!pictures.has(one.url)) {
      const image = new Image();
      image.onload = draw;
      image.src = one.url;
      pictures.set(one.url, image);
    }
    return pictures.get(one.url);
  }

  function screen(side) {
    const one = film(side), canvas = find("screen-" + side), image = picture(one);
    const index = Math.min(shown.step, one.frames - 1);
    if (canvas.width !== one.width || canvas.height !== one.height) {
      canvas.width = one.width;
      canvas.height = one.height;
    }
    if (image.complete && image.naturalWidth) {
      const x = (index % one.columns) * one.width, y = Math.floor(index / one.columns) * one.height;
      canvas.getContext("2d").drawImage(image, x, y, one.width, one.height, 0, 0, one.width, one.height);
    }
    const vote = index === 0 ? null : one.votes[index - 1];
    canvas.classList.toggle("judged", vote !== null && vote >= reel.threshold);
    canvas.setAttribute("aria-label", `${reel.policies[shown[side]]} at step ${index}`);
    const caption = find("caption-" + side), name = document.createElement("b"), verdict = document.createElement("span");
    name.className = side;
    name.textContent = reel.policies[shown[side]];
    verdict.className = "verdict";
    const now = reel.threshold === null ? "" : `now ${vote === null ? "–" : vote.toFixed(2)}, `;
    verdict.textContent = `${now}${reel.threshold === null ? "judged" : "ends in"} ${one.verdict}`;
    caption.replaceChildren(name, verdict);
  }

  function shape(name, attributes) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  const margin = () => 8000 / (find("votes").clientWidth || 778); // as the slider keeps, half its thumb
  const across = (step) => margin() + (1000 - 2 * margin()) * step / last();
  const up = (probability) => 112 - 104 * probability;

  function chart() {
    const votes = find("votes"), parts = parting();
    const rule = (step, name) => shape("line", { class: name, x1: across(step), x2: across(step), y1: 0, y2: 120 });
    const children = [];
    if (reel.threshold !== null) {
      const height = up(reel.threshold);
      children.push(shape("line", { class: "threshold", x1: 0, x2: 1000, y1: height, y2: height }));
    }
    if (parts !== null && parts.frame !== null) children.push(rule(parts.frame, "parting"));
    for (const side of ["a", "b"]) {
      const points = film(side).votes.map((vote, i) => vote === null ? null : `${across(i + 1)},${up(vote)}`);
      let d = "", open = false;
      for (const point of points) {
        d += point === null ? "" : (open ? "L" : "M") + point;
        open = point !== null;
      }
      children.push(shape("path", { class: side, d }));
    }
    children.push(rule(shown.step, "now"));
    votes.replaceChildren(...children);
  }

  function words() {
    const parts = parting();
    if (parts === null) return "This is the same policy twice.";
    if (parts.frame === null) return "Nothing tells these two apart here: no frame differs visibly.";
    const acts = parts.action === null ? "" : ` Their actions differ from step ${parts.action} on.`;
    return `They part at step ${parts.frame}, the red line: the first frame in which some part of the picture differs by a tenth of its range.${acts}`;
  }

  function draw() {
    shown.step = Math.min(shown.step, last());
    screen("a");
    screen("b");
    chart();
    const slider = find("step"), parts = parting();
    slider.max = last();
    slider.value = shown.step;
    slider.setAttribute("aria-valuetext", `step ${shown.step} of ${last()}`);
    find("now").textContent = `step ${shown.step} of ${last()}`;
    find("part").disabled = parts === null || parts.frame === null;
    if (find("parting").textContent !== words()) find("parting").textContent = words();
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    find("play").textContent = "Play";
  }

  function play() {
    if (timer !== null) return stop();
    if (shown.step >= last()) shown.step = 0;
    find("play").textContent = "Pause";
    timer = setInterval(() => {
      if (shown.step >= last()) return stop();
      shown.step += 1;
      draw();
    }, 1000 / (reel.fps * Number(find("speed").value)));
    draw();
  }

  function go(step) {
    stop();
    shown.step = Math.max(0, Math.min(last(), step));
    draw();
  }

  function toParting() {
    const parts = parting();
    go(parts === null || parts.frame === null ? 0 : parts.frame);
  }

  function offer(id, names, key) {
    const select = find(id);
    select.replaceChildren(...names.map((name, i) => new Option(name, String(i))));
    select.value = String(shown[key]);
    select.addEventListener("change", () => {
      shown[key] = Number(select.value);
      go(shown.step);
    });
  }

  offer("policy-a", reel.labels, "a");
  offer("policy-b", reel.labels, "b");
  offer("start", reel.starts, "start");
  find("play").addEventListener("click", play);
  find("back").addEventListener("click", () => go(shown.step - 1));
  find("forward").addEventListener("click", () => go(shown.step + 1));
  find("part").addEventListener("click", toParting);
  find("step").addEventListener("input", (event) => go(Number(event.target.value)));
  find("speed").addEventListener("change", () => { if (timer !== null) { stop(); play(); } });
  find("votes").addEventListener("click", (event) => {
    const box = find("votes").getBoundingClientRect();
    go(Math.round(((event.clientX - box.left) / box.width * 1000 - margin()) / (1000 - 2 * margin()) * last()));
  });
  window.addEventListener("resize", chart);
  find("player").hidden = false;
  go(last());
})();
