// What the web phones of all stacks have in common. The stack's adapter adds
// start, call, answer, hangUp, hold, resume, dtmf and restartICE to tested.
"use strict";

// told is the test's: it gets what happens.
const tell = (event, detail = "") => told(JSON.stringify({ event, detail: String(detail) }));

const tested = {
  // WSSPort and the domain of every test's edge.
  server: "wss://pbx.example.com:8443/",
  domain: "pbx.example.com",
  pc: null, // of the newest call
  played: {}, // by kind
  complete: () => Boolean(tested.start),

  // A filter for speech would take the tone for noise.
  media: (video) => ({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
    video: video ? { width: 320, height: 240, frameRate: 15 } : false,
  }),

  // The device is the profile's: it is the same when the page is loaded again.
  instance() {
    if (!localStorage.instance) localStorage.instance = crypto.randomUUID();
    return localStorage.instance;
  },

  async stats() {
    return this.pc ? [...(await this.pc.getStats()).values()] : [];
  },

  async mute(on) {
    const [sender] = this.pc.getSenders();
    if (on) this.microphone = sender.track;
    await sender.replaceTrack(on ? null : this.microphone);
  },

  state() {
    return this.pc.connectionState;
  },

  descriptions() {
    return { local: this.pc.currentLocalDescription.sdp, remote: this.pc.currentRemoteDescription.sdp };
  },
};

// Each stack makes its own connections; this sees them all.
const Connection = RTCPeerConnection;
window.RTCPeerConnection = class extends Connection {
  constructor(...options) {
    super(...options);
    tested.pc = this;
    this.addEventListener("track", ({ track }) => play(track));
    this.addEventListener("connectionstatechange", () => tell("connection", this.connectionState));
  }
  setLocalDescription(d) {
    console.log("local", d && d.type, d && d.sdp);
    return super.setLocalDescription(d);
  }
  setRemoteDescription(d) {
    console.log("remote", d.type, d.sdp);
    return super.setRemoteDescription(d);
  }
};

// The meter works at the rate of telephones, and holds a second of sound.
const ear = new AudioContext({ sampleRate: 8000 });
const meter = ear.createAnalyser();
meter.fftSize = 8192;
let source = null;

function play(track) {
  // Chromium gives WebAudio nothing of a remote track that no element plays.
  const stream = new MediaStream([track]);
  tested.played[track.kind] = document.createElement(track.kind);
  Object.assign(tested.played[track.kind], { srcObject: stream, muted: true, autoplay: true });
  if (track.kind === "video") return;
  if (source) source.disconnect();
  source = ear.createMediaStreamSource(stream);
  source.connect(meter);
}

// The last second of sound, 16 bits a sample in base64, and when it ended.
tested.sound = () => {
  const level = new Float32Array(meter.fftSize);
  meter.getFloatTimeDomainData(level);
  const bytes = new DataView(new ArrayBuffer(2 * level.length));
  level.forEach((v, i) => bytes.setInt16(2 * i, 32767 * Math.max(-1, Math.min(1, v)), true));
  return { at: ear.currentTime, samples: btoa(String.fromCharCode(...new Uint8Array(bytes.buffer))) };
};

addEventListener("load", () => {
  // Chromium gives up what it loads when its network changes, as a new one still
  // does: then its user would load again.
  if (tested.complete()) tell("loaded");
  else location.reload();
});
