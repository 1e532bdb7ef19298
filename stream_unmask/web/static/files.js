// The file half: uploads, the list of the visitor's files, and what became of them.

import { compare } from "./compare.js";

const list = document.getElementById("jobs");
const status = document.getElementById("status");
const cards = new Map(); // by the job's id
const REFRESH = 5000; // milliseconds
let followed = null; // the one job whose events are listened to: browsers open few connections

export async function startFiles(limits) {
  const input = document.getElementById("file");
  const drop = document.getElementById("drop");
  const chosen = () => {
    sendAll([...input.files], limits);
    input.value = "";
  };
  input.addEventListener("change", chosen);
  if (input.files.length) chosen(); // while this was loaded
  for (const type of ["dragenter", "dragover"])
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  for (const type of ["dragleave", "drop"])
    drop.addEventListener(type, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    sendAll([...event.dataTransfer.files], limits);
  });
  await refresh();
  setInterval(refresh, REFRESH);
}

async function sendAll(files, limits) {
  const waiting = files.map((file) => [file, addCard(file.name)]);
  for (const [file, card] of waiting)
    if (card.element.isConnected) await send(file, card, limits); // one after the other
}

// Resolves when the server has answered, or the upload was cancelled.
function send(file, card, limits) {
  if (file.size > limits.upload) {
    const most = Math.floor(limits.upload / 2 ** 20);
    fail(card, `${file.name} is larger than the ${most} MiB that are taken at a time.`);
    return Promise.resolve();
  }
  const form = new FormData();
  form.append("label", document.getElementById("label").checked);
  form.append("file", file);
  const request = new XMLHttpRequest();
  request.responseType = "json";
  card.abort = () => request.abort();
  card.state.textContent = "uploading";
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable) card.progress.value = event.loaded / event.total;
    if (event.loaded === event.total) card.state.textContent = "looking at it";
  });
  return new Promise((resolve) => {
    request.addEventListener("loadend", () => {
      card.abort = null;
      if (request.status === 201) adopt(card, request.response);
      else if (card.element.isConnected)
        fail(card, request.response?.detail ?? "The server can’t be reached.");
      resolve();
    });
    request.open("POST", "/jobs");
    request.send(form);
  });
}

function adopt(card, job) {
  if (cards.has(job.id)) card.element.remove(); // a refresh was faster
  else {
    card.id = job.id;
    cards.set(job.id, card);
  }
  update(job);
  follow(job);
}

function addCard(name) {
  const element = document.getElementById("job").content.cloneNode(true).firstElementChild;
  const part = (query) => element.querySelector(query);
  const card = { element, part, id: null, shown: null, abort: null };
  card.state = part(".state");
  card.progress = part("progress");
  part(".name").textContent = name;
  card.progress.setAttribute("aria-label", `How far ${name} is`);
  part(".remove").addEventListener("click", () => remove(card, name));
  part(".remove").setAttribute("aria-label", `Cancel ${name}`);
  card.state.textContent = "waiting";
  list.append(element);
  return card;
}

function fail(card, sentence) {
  card.state.textContent = "failed";
  card.part(".error").textContent = sentence;
  card.progress.hidden = true;
  card.part(".remove").textContent = "Remove";
  say(sentence);
}

async function remove(card, name) {
  card.abort?.();
  if (card.id !== null) {
    await fetch(`/jobs/${card.id}`, { method: "DELETE" });
    cards.delete(card.id);
  }
  card.element.remove();
  say(`${name} is removed.`);
  document.getElementById("file").focus(); // the button that had the focus is gone
}

async function refresh() {
  const answer = await fetch("/jobs").catch(() => null);
  if (!answer?.ok) return;
  const jobs = await answer.json();
  for (const job of jobs) {
    if (job.state === "uploading") continue;
    if (!cards.has(job.id)) {
      const card = addCard(job.name);
      card.id = job.id;
      cards.set(job.id, card);
    }
    update(job);
  }
  const there = new Set(jobs.map((job) => job.id));
  for (const [id, card] of cards)
    if (!there.has(id)) {
      cards.delete(id);
      card.element.remove();
    }
  const next = jobs.find((job) => ["queued", "running"].includes(job.state));
  if (next) follow(next);
}

function follow(job) {
  if (followed !== null || !["queued", "running"].includes(job.state)) return;
  followed = new EventSource(`/jobs/${job.id}/events`);
  const end = () => {
    followed.close();
    followed = null;
    refresh();
  };
  followed.addEventListener("error", end);
  followed.addEventListener("message", (event) => {
    const now = JSON.parse(event.data);
    update(now);
    if (!["queued", "running"].includes(now.state)) end();
  });
}

function update(job) {
  const card = cards.get(job.id);
  if (!card || card.shown === "done" || card.shown === "failed") return;
  card.shown = job.state;
  card.state.textContent = words(job);
  if (job.state === "running" && job.progress !== null) card.progress.value = job.progress;
  else card.progress.removeAttribute("value");
  card.progress.hidden = job.state !== "running";
  if (job.state === "failed") fail(card, job.error);
  if (job.state === "done") finish(card, job);
}

function words(job) {
  if (job.state === "queued") return job.before ? `waits for ${job.before} before it` : "is next";
  if (job.state !== "running") return job.state;
  const left = job.seconds_left;
  return left === null ? "is begun" : `${Math.round(job.progress * 100)} %, ${duration(left)} left`;
}

function duration(seconds) {
  const whole = Math.ceil(seconds);
  return whole < 90 ? `${whole} s` : `${Math.round(whole / 60)} min`;
}

async function finish(card, job) {
  card.progress.hidden = true;
  const remove = card.part(".remove");
  remove.textContent = "Remove";
  remove.setAttribute("aria-label", `Remove ${job.name}`);
  const download = card.part(".download");
  download.href = `/jobs/${job.id}/result`;
  download.download = "";
  download.hidden = false;
  const body = card.part(".body");
  body.append(compare(job));
  body.hidden = false;
  say(`${job.name} is done.`);
  const answer = await fetch(`/jobs/${job.id}/report`);
  if (answer.ok) report(card, job, (await answer.json()).files[0]);
}

function report(card, job, facts) {
  const people = facts.tracks.length;
  const rows = [
    ["Frames", facts.frames],
    ["With invented faces", facts.edited_frames],
    [job.kind === "picture" ? "Faces" : "People", people],
    ["Took", `${facts.seconds.toFixed(1)} s on ${facts.backend}`],
    ["Left out", facts.dropped.join("; ")],
    ["Beware", facts.warnings.join(" ")],
    ["Kept until", new Date(job.expires * 1000).toLocaleTimeString()],
  ];
  for (const [name, value] of rows.filter(([, value]) => value !== "")) {
    const row = document.createElement("div");
    row.append(document.createElement("dt"), document.createElement("dd"));
    row.firstChild.textContent = name;
    row.lastChild.textContent = value;
    card.part(".report dl").append(row);
  }
  card.part(".report").hidden = false;
  card.state.textContent = facts.edited_frames ? "done" : "done: no mask found, nothing was changed";
}

function say(sentence) {
  status.textContent = sentence;
}
