// What the script's agent stands on in tests: a socket, media, a clock and
// random words that the test owns.
"use strict";

const bench = { sent: [], sockets: [], media: [], timers: [], now: 0, words: 0, changes: 0, ended: [], results: {}, refuses: "", noMicrophone: "" };

class FakeMedia {
  constructor(on) { Object.assign(this, { on, log: [], offers: 0, broken: false, closed: false, direction: "sendrecv", remote: {} }); }
  did(what) { this.log.push(what); if (bench.refuses && what.startsWith(bench.refuses)) throw new Error("not to my taste"); }
  async offer(options) { this.did("offer" + (options && options.iceRestart ? " anew" : "")); return `our offer ${++this.offers} ${this.direction}\r\n`; }
  async answer(sdp) { this.did(`answer ${sdp.trim()}`); return "our answer\r\n"; }
  async accept(sdp) { this.did(`accept ${sdp.trim()}`); }
  async rollback() { this.did("rollback"); }
  hold(on) { this.direction = on ? "sendonly" : "sendrecv"; }
  mute(on) { this.did(`mute ${on}`); }
  dtmf(digits) { this.did(`dtmf ${digits}`); }
  isBroken() { return this.broken; }
  close() { this.closed = true; }
}

const env = {
  connect(url) {
    const s = { url, closed: false, send: (text) => { bench.sent.push(text); }, close: () => { s.closed = true; } };
    bench.sockets.push(s);
    return s;
  },
  async openMedia(on) {
    if (bench.noMicrophone) throw new Error(bench.noMicrophone);
    const m = new FakeMedia(on);
    bench.media.push(m);
    return m;
  },
  setTimeout(f, ms) { bench.timers.push({ f, at: bench.now + ms, id: ++bench.words }); return bench.words; },
  clearTimeout(id) { bench.timers = bench.timers.filter((t) => t.id !== id); },
  random: (n) => (++bench.words).toString(16).padStart(2 * n, "0").slice(-2 * n),
};

const agent = new sallyport.Agent(env, { changed: () => { bench.changes++; }, ended: (c) => bench.ended.push(c.why), trace: () => {} });

// tick runs the timer that is due first, if one is until then.
function tick(until) {
  bench.timers.sort((a, b) => a.at - b.at || a.id - b.id);
  if (bench.timers.length === 0 || bench.timers[0].at > until) { bench.now = until; return false; }
  const t = bench.timers.shift();
  bench.now = Math.max(bench.now, t.at);
  t.f();
  return true;
}

// keep notes how a promise ends.
function keep(name, promise) {
  bench.results[name] = "pending";
  promise.then(() => { bench.results[name] = "done"; }, (e) => { bench.results[name] = e.message; });
}

const socket = () => bench.sockets[bench.sockets.length - 1];
const media = () => bench.media[bench.media.length - 1];
