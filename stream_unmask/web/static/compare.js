// Before and after on top of each other, parted by a slider; videos play in step.

const FAR = 0.25; // seconds apart at which the one jumps to the other
const NEAR = 0.02; // seconds apart at which it no longer hurries

export function compare(job) {
  const element = document.getElementById("compare").content.cloneNode(true).firstElementChild;
  const stage = element.querySelector(".stage");
  const slider = element.querySelector(".slider");
  const kind = job.kind === "picture" ? "img" : "video";
  const [after, before] = ["result", "source"].map((what) => {
    const media = document.createElement(kind);
    media.src = `/jobs/${job.id}/${what}`;
    media.className = what;
    return media;
  });
  name(after, `${job.name} with invented faces`);
  name(before, `${job.name} as it came`);
  const onlyAfter = () => {
    before.remove();
    stage.classList.add("single");
    element.querySelector(".only").hidden = false;
    element.querySelector(".split").hidden = true;
  };
  before.addEventListener("error", onlyAfter);
  stage.prepend(after, before);
  slider.addEventListener("input", () => split(stage, slider));
  stage.addEventListener("pointermove", (event) => event.buttons && drag(event, stage, slider));
  stage.addEventListener("pointerdown", (event) => drag(event, stage, slider));
  split(stage, slider);
  if (kind === "video") play(element, after, before, onlyAfter);
  return element;
}

function name(media, text) {
  if (media instanceof HTMLImageElement) media.alt = text;
  else media.setAttribute("aria-label", text);
}

function split(stage, slider) {
  stage.style.setProperty("--split", `${slider.value}%`);
  slider.setAttribute("aria-valuetext", `${slider.value} % before`);
}

function drag(event, stage, slider) {
  const box = stage.getBoundingClientRect();
  slider.value = (100 * (event.clientX - box.left)) / box.width;
  split(stage, slider);
}

// One player for both: the result leads, the source follows without a sound.
function play(element, after, before, onlyAfter) {
  const button = element.querySelector(".play");
  const seek = element.querySelector(".seek");
  const time = element.querySelector(".time");
  element.querySelector(".player").hidden = false;
  for (const video of [after, before]) {
    video.playsInline = true;
    video.preload = "auto";
  }
  before.muted = true;
  before.tabIndex = -1;
  button.addEventListener("click", () => (after.paused ? after.play() : after.pause()));
  after.addEventListener("play", () => {
    button.textContent = "Pause";
    before.play().catch(() => {});
  });
  after.addEventListener("pause", () => {
    button.textContent = "Play";
    before.pause();
    before.currentTime = after.currentTime;
  });
  after.addEventListener("seeking", () => (before.currentTime = after.currentTime));
  const show = () => {
    if (after.duration) seek.value = after.currentTime / after.duration;
    time.textContent = `${clock(after.currentTime)} / ${clock(after.duration)}`;
    seek.setAttribute("aria-valuetext", time.textContent);
  };
  for (const type of ["timeupdate", "loadedmetadata", "ended"]) after.addEventListener(type, show);
  seek.addEventListener("input", () => (after.currentTime = seek.value * after.duration));
  before.addEventListener("loadedmetadata", () => before.videoWidth || onlyAfter());
  keepStep(after, before);
}

function keepStep(after, before) {
  const step = () => {
    const late = after.currentTime - before.currentTime;
    if (Math.abs(late) > FAR) before.currentTime = after.currentTime;
    before.playbackRate = Math.abs(late) > NEAR ? Math.min(1.25, Math.max(0.75, 1 + late)) : 1;
    again();
  };
  const again = () =>
    "requestVideoFrameCallback" in after
      ? after.requestVideoFrameCallback(step)
      : after.addEventListener("timeupdate", step, { once: true });
  again();
}

function clock(seconds) {
  if (!Number.isFinite(seconds)) return "0:00";
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
