// The page: what the server takes, and its two halves.

import { startFiles } from "./files.js";
import { startLive } from "./live.js";

const byId = (id) => document.getElementById(id);

function minutes(seconds) {
  const whole = Math.round(seconds / 60);
  return whole >= 1 ? `after ${whole} minute${whole === 1 ? "" : "s"}` : "very soon";
}

const limits = await (await fetch("/limits")).json();
const mebibytes = Math.floor(limits.upload / 2 ** 20);
byId("limits").textContent =
  `Up to ${mebibytes} MiB, videos up to ${limits.minutes} minutes; JPEG, PNG, WebP.`;
byId("keep").textContent = minutes(limits.keep);
startFiles(limits);
startLive(limits);
