// The live half: the visitor's camera to the server, and what comes back of it.

const byId = (id) => document.getElementById(id);
const OFTEN = 1000; // milliseconds from one look at the connection to the next
const PATIENCE = 20_000; // milliseconds in which a connection comes about, or never does
let call = null; // the connection, while there is one

export function startLive(limits) {
  byId("start").addEventListener("click", start);
  byId("stop").addEventListener("click", () => stop("The camera is off."));
  window.addEventListener("pagehide", () => stop(""));
  const why = unable(limits);
  if (why !== null) {
    byId("start").disabled = true;
    say(why);
  }
}

function unable(limits) {
  if (limits.live === 0) return "This server takes no cameras.";
  if (!window.isSecureContext)
    return "Browsers give cameras only to pages by https or on this very machine (localhost).";
  if (!navigator.mediaDevices?.getUserMedia || !window.RTCPeerConnection)
    return "This browser can’t send a camera’s picture (WebRTC).";
  return null;
}

async function start() {
  byId("start").disabled = true;
  say("The browser asks whether this page may see your camera.");
  const mine = (call = { peer: null, stream: null, timer: null, facts: null });
  try {
    mine.stream = await camera();
    if (call !== mine) return end(mine);
    say("The connection is made.");
    setTimeout(() => {
      if (call === mine && ["new", "connecting"].includes(mine.peer.connectionState))
        stop("No connection came about. Please try again.");
    }, PATIENCE);
    await connect(mine);
  } catch (error) {
    end(mine);
    if (call === mine) stop(refusal(error));
    return;
  }
  if (call === mine) byId("stop").focus();
}

function camera() {
  const size = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25, max: 30 } };
  const request = navigator.mediaDevices.getUserMedia({ video: size, audio: false });
  byId("stop").disabled = false; // also while the browser asks
  return request;
}

async function connect(mine) {
  const peer = (mine.peer = new RTCPeerConnection());
  const channel = peer.createDataChannel("figures");
  channel.addEventListener("message", (event) => {
    mine.facts = JSON.parse(event.data);
    if (mine.facts.error) stop(mine.facts.error);
  });
  peer.addEventListener("track", (event) => show(byId("result"), new MediaStream([event.track])));
  peer.addEventListener("connectionstatechange", () => {
    if (call !== mine) return;
    if (peer.connectionState === "connected") say("Your camera is on.");
    if (peer.connectionState === "failed") stop("The connection to the server broke.");
  });
  peer.addTrack(mine.stream.getVideoTracks()[0], mine.stream);
  show(byId("camera"), mine.stream);
  await peer.setLocalDescription(await peer.createOffer());
  await gathered(peer);
  const answer = await fetch("/live/offer", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(peer.localDescription),
  });
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.detail);
  await peer.setRemoteDescription(said);
  for (const id of ["live", "live-facts"]) byId(id).hidden = false;
  mine.timer = setInterval(() => measure(mine), OFTEN);
}

function gathered(peer) {
  return new Promise((resolve) => {
    const look = () => peer.iceGatheringState === "complete" && resolve();
    peer.addEventListener("icegatheringstatechange", look);
    look();
  });
}

// From the camera to the screen: there and back, on the server, and waiting here.
async function measure(mine) {
  let network = 0;
  let here = 0;
  for (const entry of (await mine.peer.getStats()).values()) {
    if (entry.type === "candidate-pair" && entry.nominated)
      network = 1000 * (entry.currentRoundTripTime ?? 0);
    if (entry.type === "inbound-rtp" && entry.jitterBufferEmittedCount)
      here = (1000 * entry.jitterBufferDelay) / entry.jitterBufferEmittedCount;
  }
  if (call !== mine || !mine.facts?.rate) return;
  const all = Math.round(mine.facts.latency + network + here);
  byId("latency").textContent =
    `${all} ms (server ${Math.round(mine.facts.latency)}, way ${Math.round(network)}, browser ${Math.round(here)})`;
  byId("rate").textContent = mine.facts.rate.toFixed(1);
}

function stop(sentence) {
  if (call === null) return;
  end(call);
  call = null;
  fetch("/live", { method: "DELETE", keepalive: true }).catch(() => {});
  for (const id of ["live", "live-facts"]) byId(id).hidden = true;
  for (const id of ["camera", "result"]) byId(id).srcObject = null;
  for (const id of ["latency", "rate"]) byId(id).textContent = "–";
  byId("stop").disabled = true;
  byId("start").disabled = false;
  if (sentence) byId("start").focus();
  say(sentence);
}

function end(mine) {
  clearInterval(mine.timer);
  mine.peer?.close();
  for (const track of mine.stream?.getTracks() ?? []) track.stop();
}

function refusal(error) {
  const sentences = {
    NotAllowedError: "The browser was told not to give this page the camera.",
    NotFoundError: "There is no camera.",
    NotReadableError: "The camera is in use by another program.",
  };
  return sentences[error.name] ?? error.message;
}

function show(video, stream) {
  video.srcObject = stream;
  video.play().catch(() => {});
}

function say(sentence) {
  byId("live-message").textContent = sentence;
}
