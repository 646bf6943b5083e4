// The test phone: a SIP user agent over WebSocket (RFC 7118) whose media is the
// browser's WebRTC. In sections, each of which knows only those above it:
//
//   1 text       bytes, random words, MD5 and SHA-256
//   2 messages   reading and writing SIP (RFC 3261 section 7 and 25)
//   3 digest     answers to challenges (RFC 7616, RFC 2617)
//   4 link       the WebSocket, kept open
//   5 layer      transactions over a reliable transport (RFC 3261 section 17)
//   6 dialog     route set, target and numbers (RFC 3261 section 12)
//   7 call       one call's life, its offers and answers
//   8 agent      registration, and what comes outside of a call
//   9 media      RTCPeerConnection
//  10 page       the page's own buttons and plot
//
// Sections 1 to 8 touch neither the page nor the network: an env is handed in,
// with {connect(url), openMedia(events), setTimeout, clearTimeout, random(n)}.
// Whatever the far end says is shown as text, never as markup.
"use strict";

(() => {

// ---- 1 text ---------------------------------------------------------------

function utf8(text) {
  const out = [];
  for (const ch of text) {
    const c = ch.codePointAt(0);
    if (c < 0x80) out.push(c);
    else if (c < 0x800) out.push(0xc0 | c >> 6, 0x80 | c & 63);
    else if (c < 0x10000) out.push(0xe0 | c >> 12, 0x80 | c >> 6 & 63, 0x80 | c & 63);
    else out.push(0xf0 | c >> 18, 0x80 | c >> 12 & 63, 0x80 | c >> 6 & 63, 0x80 | c & 63);
  }
  return out;
}

// padded is a message in 32-bit words, as both hashes want it (RFC 1321 section 3.1).
function padded(text, littleEndian) {
  const bytes = utf8(text), bits = bytes.length * 8, words = [];
  bytes.push(0x80);
  while (bytes.length % 64 !== 56) bytes.push(0);
  for (let i = 0; i < bytes.length; i += 4) {
    const [a, b, c, d] = bytes.slice(i, i + 4);
    words.push(littleEndian ? a | b << 8 | c << 16 | d << 24 : a << 24 | b << 16 | c << 8 | d);
  }
  const high = Math.floor(bits / 2 ** 32), low = bits | 0;
  words.push(...(littleEndian ? [low, high] : [high, low]));
  return words;
}

function hex(words, littleEndian) {
  let out = "";
  for (const w of words) {
    for (let i = 0; i < 4; i++) out += (w >>> (littleEndian ? i * 8 : 24 - i * 8) & 255).toString(16).padStart(2, "0");
  }
  return out;
}

// Both hashes are here because digest needs MD5, which browsers do not offer,
// and needs its answer at once.
const md5Sines = Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32) | 0);
const md5Turns = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];

function md5(text) {
  const x = padded(text, true), h = [0x67452301, 0xefcdab89 | 0, 0x98badcfe | 0, 0x10325476];
  for (let at = 0; at < x.length; at += 16) {
    let [a, b, c, d] = h;
    for (let i = 0; i < 64; i++) {
      const round = i >> 4;
      const [f, k] = [
        () => [b & c | ~b & d, i],
        () => [b & d | c & ~d, (5 * i + 1) % 16],
        () => [b ^ c ^ d, (3 * i + 5) % 16],
        () => [c ^ (b | ~d), 7 * i % 16],
      ][round]();
      const sum = a + f + md5Sines[i] + x[at + k] | 0, turn = md5Turns[round][i % 4];
      [a, d, c, b] = [d, c, b, b + (sum << turn | sum >>> 32 - turn) | 0];
    }
    [a, b, c, d].forEach((v, i) => { h[i] = h[i] + v | 0; });
  }
  return hex(h, true);
}

const primes = [];
for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
const fraction = (x) => (x - Math.floor(x)) * 2 ** 32 | 0;

function sha256(text) {
  const x = padded(text, false), k = primes.map((p) => fraction(Math.cbrt(p))), h = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));
  const turn = (v, n) => v >>> n | v << 32 - n;
  for (let at = 0; at < x.length; at += 16) {
    const w = x.slice(at, at + 16);
    for (let i = 16; i < 64; i++) {
      const a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >>> 3) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >>> 10) | 0;
    }
    let v = h.slice();
    for (let i = 0; i < 64; i++) {
      const [a, b, c, d, e, f, g, s] = v;
      const one = s + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + (e & f ^ ~e & g) + k[i] + w[i] | 0;
      const two = (turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + (a & b ^ a & c ^ b & c) | 0;
      v = [one + two | 0, a, b, c, d + one | 0, e, f, g];
    }
    v.forEach((n, i) => { h[i] = h[i] + n | 0; });
  }
  return hex(h, false);
}

// ---- 2 messages -----------------------------------------------------------

const compact = { // RFC 3261 section 7.3.3, RFC 3515, 3892, 4028, 6665
  v: "via", f: "from", t: "to", i: "call-id", m: "contact", l: "content-length", c: "content-type", e: "content-encoding",
  k: "supported", s: "subject", o: "event", u: "allow-events", r: "refer-to", b: "referred-by", x: "session-expires",
};
const spelled = { "call-id": "Call-ID", cseq: "CSeq", rack: "RAck", rseq: "RSeq", "www-authenticate": "WWW-Authenticate" };
const fullName = (name) => compact[name.toLowerCase()] || name.toLowerCase();
const shownName = (name) => spelled[name] || name.replace(/(^|-)[a-z]/g, (s) => s.toUpperCase());

// split cuts at a separator outside of quotes and angle brackets.
function split(value, separator) {
  const out = [];
  let part = "", quoted = false, angle = false;
  for (let i = 0; i < value.length; i++) {
    const c = value[i];
    if (quoted && c === "\\") { part += c + (value[++i] || ""); continue; }
    if (c === '"' && !angle) quoted = !quoted;
    else if (!quoted && c === "<") angle = true;
    else if (!quoted && c === ">") angle = false;
    if (c === separator && !quoted && !angle) { out.push(part.trim()); part = ""; } else part += c;
  }
  out.push(part.trim());
  return out.filter((s) => s !== "");
}

const unquoted = (s) => /^".*"$/.test(s) ? s.slice(1, -1).replace(/\\(.)/g, "$1") : s;

// parameters reads ";a=b;c"; one without a value is "".
function parameters(text) {
  const out = Object.create(null);
  for (const p of split(text, ";")) {
    const at = p.indexOf("=");
    const name = (at < 0 ? p : p.slice(0, at)).trim().toLowerCase();
    if (!(name in out)) out[name] = at < 0 ? "" : unquoted(p.slice(at + 1).trim());
  }
  return out;
}

// address reads a name-addr or an addr-spec (RFC 3261 section 20.10).
function address(value) {
  let rest = value.trim(), display = "";
  const quoted = /^("(?:[^"\\]|\\.)*")\s*/.exec(rest);
  if (quoted) { display = unquoted(quoted[1]); rest = rest.slice(quoted[0].length); }
  const from = rest.indexOf("<"), to = rest.indexOf(">", from);
  if (from < 0 || to < 0) {
    const [uri, ...more] = rest.split(";");
    return { display, uri: uri.trim(), params: parameters(more.join(";")) };
  }
  if (!quoted) display = rest.slice(0, from).trim();
  return { display, uri: rest.slice(from + 1, to), params: parameters(rest.slice(to + 1)) };
}

function parseURI(text) {
  const m = /^(sips?):(?:([^@]*)@)?(\[[^\]]*\]|[^:;?]+)(?::(\d+))?(;[^?]*)?/i.exec(text);
  if (!m) return null;
  return { scheme: m[1].toLowerCase(), user: m[2] || "", host: m[3].toLowerCase(), port: m[4] || "", params: parameters(m[5] || "") };
}

const tagOf = (value) => address(value).params.tag || "";
const named = (n) => n.display || (parseURI(n.uri) || { user: "" }).user || n.uri;

class Message {
  constructor(first) { Object.assign(this, { method: "", uri: "", status: 0, reason: "", fields: [], body: "" }, first); }

  all(name) { return this.fields.filter((f) => f[0] === name).map((f) => f[1]); }
  get(name) { return this.all(name)[0] || ""; }
  list(name) { return this.all(name).flatMap((v) => split(v, ",")); }
  tokens(name) { return this.list(name).map((v) => v.toLowerCase()); }
  add(name, ...values) { for (const v of values) this.fields.push([fullName(name), v]); return this; }
  first(name, value) { this.fields.unshift([fullName(name), value]); return this; }
  set(name, value) {
    const n = fullName(name), at = this.fields.findIndex((f) => f[0] === n);
    if (at < 0) return this.add(name, value);
    this.fields[at][1] = value;
    return this;
  }
  sdp(body) { this.body = body; return this.set("Content-Type", "application/sdp"); }
  get hasSDP() { return this.body !== "" && /^application\/sdp\s*(;|$)/i.test(this.get("content-type")); }
  get sequence() { return parseInt(this.get("cseq"), 10); }
  get sequenceMethod() { return this.get("cseq").replace(/^\d+\s+/, ""); }
  get branch() { return parameters((this.list("via")[0] || "").replace(/^[^;]*/, "")).branch || ""; }

  toString() {
    const start = this.method ? `${this.method} ${this.uri} SIP/2.0` : `SIP/2.0 ${this.status} ${this.reason}`;
    const lines = this.fields.filter((f) => f[0] !== "content-length").map(([n, v]) => `${shownName(n)}: ${v}`);
    return [start, ...lines, `Content-Length: ${utf8(this.body).length}`, "", this.body].join("\r\n");
  }
}

// parse reads one message, which is one WebSocket message (RFC 7118 section 5);
// null for what is none.
function parse(text) {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return null;
  const [start, ...lines] = text.slice(0, end).replace(/[ \t]*\r\n[ \t]+/g, " ").split("\r\n");
  const res = /^SIP\/2\.0 ([1-6]\d\d)(?: (.*))?$/i.exec(start), req = /^([A-Za-z0-9.!%*_+`'~-]+) (\S+) SIP\/2\.0$/i.exec(start);
  if (!res && !req) return null;
  const m = new Message(res ? { status: Number(res[1]), reason: res[2] || "" } : { method: req[1], uri: req[2] });
  for (const line of lines) {
    const at = line.indexOf(":");
    if (at < 1) return null;
    m.add(line.slice(0, at).trim(), line.slice(at + 1).trim());
  }
  for (const name of ["from", "to", "call-id", "cseq"]) if (m.all(name).length !== 1) return null;
  if (!/^\d{1,10}\s+\S+$/.test(m.get("cseq")) || !m.branch || (req && m.sequenceMethod !== m.method)) return null;
  m.body = text.slice(end + 4);
  const length = m.get("content-length");
  if (length !== "" && (!/^\d+$/.test(length) || Number(length) !== utf8(m.body).length)) return null;
  return m;
}

// ---- 3 digest -------------------------------------------------------------

const hashes = { "md5": md5, "sha-256": sha256 };

// challenge reads one of WWW- or Proxy-Authenticate; null if we cannot answer it.
function challenge(value) {
  const m = /^Digest\s+(.*)$/i.exec(value.trim());
  if (!m) return null;
  const p = parameters(split(m[1], ",").join(";")), algorithm = (p.algorithm || "MD5").toLowerCase();
  const qop = (p.qop || "").split(",").map((s) => s.trim().toLowerCase());
  if (p.realm === undefined || !p.nonce || !hashes[algorithm.replace(/-sess$/, "")]) return null;
  if (p.qop !== undefined && !qop.includes("auth")) return null;
  return {
    realm: p.realm, nonce: p.nonce, opaque: p.opaque, algorithm: p.algorithm, qop: p.qop !== undefined,
    hash: hashes[algorithm.replace(/-sess$/, "")], session: algorithm.endsWith("-sess"),
    userhash: (p.userhash || "").toLowerCase() === "true", stale: (p.stale || "").toLowerCase() === "true", count: 0,
  };
}

// answer is the value of Authorization or Proxy-Authorization (RFC 7616 section 3.4).
function answer(c, user, password, method, uri, cnonce) {
  const h = c.hash, nc = (++c.count).toString(16).padStart(8, "0");
  let a1 = h(`${user}:${c.realm}:${password}`);
  if (c.session) a1 = h(`${a1}:${c.nonce}:${cnonce}`);
  const a2 = h(`${method}:${uri}`);
  const response = c.qop ? h(`${a1}:${c.nonce}:${nc}:${cnonce}:auth:${a2}`) : h(`${a1}:${c.nonce}:${a2}`);
  const quote = (s) => '"' + s.replace(/["\\]/g, "\\$&") + '"';
  const parts = [`username=${quote(c.userhash ? h(`${user}:${c.realm}`) : user)}`, `realm=${quote(c.realm)}`, `nonce=${quote(c.nonce)}`, `uri=${quote(uri)}`, `response="${response}"`];
  if (c.algorithm) parts.push(`algorithm=${c.algorithm}`);
  if (c.opaque !== undefined) parts.push(`opaque=${quote(c.opaque)}`);
  if (c.qop) parts.push("qop=auth", `nc=${nc}`);
  if (c.qop || c.session) parts.push(`cnonce=${quote(cnonce)}`);
  if (c.userhash) parts.push("userhash=true");
  return "Digest " + parts.join(", ");
}

// Credentials answer challenges for one user, and go on with a nonce within
// the dialog or registration that got it.
class Credentials {
  constructor(user, password, random) { Object.assign(this, { user, password, random, known: new Map() }); }

  // learn takes a 401 or 407, and tells whether there is something to answer:
  // to a first refusal, to one of another realm, and to one of an old nonce.
  learn(res, first) {
    const found = new Map(), known = this.known.get(res.get("call-id")) || new Map();
    for (const [name, to] of [["www-authenticate", "Authorization"], ["proxy-authenticate", "Proxy-Authorization"]]) {
      for (const value of res.all(name)) {
        const c = challenge(value);
        if (!c) continue;
        const key = `${to} ${c.realm}`, other = found.get(key);
        if (!other || (other.c.hash === md5 && c.hash === sha256)) found.set(key, { c, to });
      }
    }
    const again = [...found].some(([key, { c }]) => first || c.stale || !known.has(key));
    this.known.set(res.get("call-id"), new Map([...known, ...found]));
    if (this.known.size > 8) this.known.delete(this.known.keys().next().value);
    return again;
  }

  apply(m) {
    const known = this.known.get(m.get("call-id"));
    if (known) for (const { c, to } of known.values()) m.add(to, answer(c, this.user, this.password, m.method, m.uri, this.random(8)));
    return m;
  }
}

// ---- 4 link ---------------------------------------------------------------

const openWithin = 8e3, pingEvery = 25e3, pongWithin = 10e3; // RFC 5626 section 4.4.1

// Link keeps a WebSocket open until it is closed: it pings, and comes back with
// growing pauses.
class Link {
  constructor(env, url, events) { Object.assign(this, { env, url, events, state: "closed", failures: 0, socket: null, timer: 0 }); }

  open() {
    this.env.clearTimeout(this.timer);
    this.state = "connecting";
    const s = this.socket = this.env.connect(this.url);
    this.timer = this.env.setTimeout(() => this.lost(), openWithin); // TCP would wait longer, and longer each time
    s.onopen = () => {
      if (s !== this.socket) return;
      this.env.clearTimeout(this.timer);
      this.state = "open";
      this.failures = 0;
      this.ping();
      this.events.opened();
    };
    s.onmessage = (e) => { if (s === this.socket) this.heard(e.data); };
    s.onclose = () => { if (s === this.socket) this.lost(); };
    this.events.changed();
  }

  ping() {
    this.timer = this.env.setTimeout(() => {
      this.socket.send("\r\n\r\n");
      this.timer = this.env.setTimeout(() => this.lost(), pongWithin);
    }, pingEvery);
  }

  heard(data) {
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    this.env.clearTimeout(this.timer);
    this.ping();
    if (text === "\r\n\r\n") this.socket.send("\r\n");
    else if (text.trim() !== "") this.events.received(text);
  }

  // lost drops the socket, whether or not it knows yet that it is dead.
  lost() {
    this.drop();
    this.state = "waiting";
    const wait = Math.min(30, 2 ** this.failures++) * (750 + parseInt(this.env.random(1), 16) * 2); // 0.75 to 1.26 of it
    this.timer = this.env.setTimeout(() => this.open(), wait);
    this.events.lost();
  }

  // hasten ends a pause: the machine says its network is back.
  hasten() { if (this.state === "waiting") { this.failures = 0; this.open(); } }

  send(text) {
    if (this.state !== "open") return false;
    this.socket.send(text);
    return true;
  }

  drop() {
    this.env.clearTimeout(this.timer);
    const s = this.socket;
    this.socket = null;
    if (s) s.close();
  }

  close() { this.drop(); this.state = "closed"; }
}

// ---- 5 layer --------------------------------------------------------------

const T1 = 500, T2 = 4000, timeout = 64 * T1; // ms, RFC 3261 section 17.1.1.1

// Layer matches responses to requests and requests to their transactions. The
// transport is reliable, so no request is sent twice.
class Layer {
  constructor(env, host, send, trace) { Object.assign(this, { env, host, transmit: send, trace, clients: new Map(), servers: new Map() }); }

  send(m) {
    this.trace(">", m);
    return this.transmit(m.toString());
  }

  via() { return `SIP/2.0/WSS ${this.host};branch=z9hG4bK${this.env.random(8)}`; }

  // request begins a client transaction; on is called with every response to an
  // INVITE and the final one to others, a local 408 or 503 among them.
  request(m, on) {
    m.first("Via", this.via());
    const tx = { m, on, key: `${m.branch} ${m.method}`, state: "trying", cancel: null };
    this.clients.set(tx.key, tx);
    tx.timer = this.env.setTimeout(() => this.local(tx, 408, "Request Timeout"), timeout);
    if (!this.send(m)) this.env.setTimeout(() => this.local(tx, 503, "Not Connected"), 0);
    return tx;
  }

  // local ends a transaction without the far end.
  local(tx, status, reason) {
    if (!this.clients.delete(tx.key)) return;
    this.env.clearTimeout(tx.timer);
    if (tx.state === "accepted") return;
    const res = this.answerTo(tx.m, status, reason);
    res.local = true;
    tx.on(res);
  }

  lost() { for (const tx of [...this.clients.values()]) this.local(tx, 503, "Connection Lost"); }

  receive(res) {
    const tx = this.clients.get(`${res.branch} ${res.sequenceMethod}`);
    if (!tx) return;
    if (res.status < 200) {
      if (tx.m.method !== "INVITE" || tx.state === "accepted") return;
      if (tx.state === "trying") {
        tx.state = "proceeding";
        this.env.clearTimeout(tx.timer);
        if (tx.cancel) tx.cancel();
      }
      tx.on(res);
      return;
    }
    this.env.clearTimeout(tx.timer);
    if (tx.m.method !== "INVITE" || res.status >= 300) {
      this.clients.delete(tx.key);
      if (tx.m.method === "INVITE" && tx.state !== "accepted") this.send(this.within(tx.m, "ACK").add("To", res.get("to")));
      if (tx.state !== "accepted") tx.on(res);
      return;
    }
    // Further 2xx come: repeats, or from other forks (RFC 6026 section 7.2).
    tx.state = "accepted";
    tx.timer = this.env.setTimeout(() => this.clients.delete(tx.key), timeout);
    tx.on(res);
  }

  // within is an ACK or CANCEL of an INVITE's own transaction, but for its To
  // (RFC 3261 sections 17.1.1.3 and 9.1).
  within(invite, method) {
    const m = new Message({ method, uri: invite.uri }).add("Via", invite.get("via"));
    for (const name of ["max-forwards", "route", "from", "call-id"]) m.add(name, ...invite.all(name));
    return m.add("CSeq", `${invite.sequence} ${method}`);
  }

  // cancel gives an INVITE up; before a provisional answer it must wait for one.
  cancel(tx) {
    const send = () => {
      tx.cancel = null;
      const m = this.within(tx.m, "CANCEL").add("To", tx.m.get("to"));
      const own = { m, key: `${m.branch} CANCEL`, on: () => {}, state: "trying" };
      this.clients.set(own.key, own);
      own.timer = this.env.setTimeout(() => this.local(own, 408, "Request Timeout"), timeout);
      tx.timer = this.env.setTimeout(() => this.local(tx, 487, "Request Terminated"), timeout);
      this.send(m);
    };
    if (tx.state === "proceeding") send();
    else if (tx.state === "trying") tx.cancel = send;
  }

  // serve makes the server transaction of an INVITE; null for a repetition,
  // which it answers.
  serve(m) {
    const key = m.list("via")[0], known = this.servers.get(key);
    if (known) { if (known.last) this.send(known.last); return null; }
    const tx = { m, key, last: null, final: 0 };
    this.servers.set(key, tx);
    return tx;
  }

  serverOf(m) { return this.servers.get(m.list("via")[0]); }

  respond(tx, res) {
    if (tx.final) return;
    tx.last = res;
    if (res.status >= 200) {
      tx.final = res.status;
      this.env.setTimeout(() => this.servers.delete(tx.key), timeout);
    }
    this.send(res);
  }

  // answerTo begins a response (RFC 3261 section 8.2.6.2).
  answerTo(m, status, reason, tag) {
    const res = new Message({ status, reason });
    for (const name of ["via", "from", "to", "call-id", "cseq"]) res.add(name, ...m.all(name));
    if (status > 100 && !tagOf(m.get("to"))) res.set("To", `${m.get("to")};tag=${tag || this.env.random(5)}`);
    return res;
  }
}

// ---- 6 dialog -------------------------------------------------------------

class Dialog {
  // caller makes the dialog of an INVITE of ours from an answer with a tag.
  static caller(invite, res) {
    const d = new Dialog();
    Object.assign(d, { callID: invite.get("call-id"), local: invite.get("from"), remote: res.get("to"), sequence: invite.sequence, remoteSequence: -1, target: invite.uri, routes: [] });
    d.learn(res);
    return d;
  }

  // callee makes the dialog of an INVITE that came.
  static callee(invite, tag) {
    const d = new Dialog();
    Object.assign(d, { callID: invite.get("call-id"), local: `${invite.get("to")};tag=${tag}`, remote: invite.get("from"), sequence: 0, remoteSequence: invite.sequence, routes: invite.list("record-route") });
    d.target = address(invite.list("contact")[0] || invite.get("from")).uri;
    return d;
  }

  get localTag() { return tagOf(this.local); }
  get remoteTag() { return tagOf(this.remote); }

  // learn takes the route set and target of an answer to the first INVITE; that
  // of a 2xx is the last word (RFC 3261 section 13.2.2.4).
  learn(res) {
    this.routes = res.list("record-route").reverse();
    this.refresh(res);
  }

  refresh(m) {
    const contact = m.list("contact")[0];
    if (contact) this.target = address(contact).uri;
  }

  has(m) {
    return m.get("call-id") === this.callID && tagOf(m.get("to")) === this.localTag && tagOf(m.get("from")) === this.remoteTag;
  }

  request(method, sequence) {
    let uri = this.target, routes = this.routes;
    const next = routes.length > 0 && parseURI(address(routes[0]).uri);
    if (next && !("lr" in next.params)) { // a strict router (RFC 3261 section 12.2.1.1)
      uri = address(routes[0]).uri;
      routes = [...routes.slice(1), `<${this.target}>`];
    }
    return new Message({ method, uri }).add("Max-Forwards", "70").add("Route", ...routes).add("From", this.local).add("To", this.remote)
      .add("Call-ID", this.callID).add("CSeq", `${sequence === undefined ? ++this.sequence : sequence} ${method}`);
  }
}

// ---- 7 call ---------------------------------------------------------------

const allow = "INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, OPTIONS, INFO, NOTIFY";
const supported = ["100rel", "outbound", "path"];

class Failure extends Error {
  constructor(status, reason) { super(reason); this.status = status; } // 0: no answer of the far end's
}

// Call is one call. Its state: calling, ringing (there), incoming, active, ended.
class Call {
  constructor(agent, peer) {
    Object.assign(this, {
      agent, peer, state: "calling", why: "", early: "", media: null, dialog: null, forks: new Map(), invite: null, tx: null,
      muted: false, held: false, remoteHeld: false, offering: false, serving: false, repeats: new Map(), turn: Promise.resolve(),
      described: Promise.resolve(), settled: null, answered: 0, reliable: null, wantsRestart: 0,
    });
  }

  get env() { return this.agent.env; }
  get layer() { return this.agent.layer; }

  change(state) {
    if (this.state !== "ended") this.state = state;
    this.agent.changed();
  }

  async openMedia() {
    const media = await this.env.openMedia({
      broken: (how) => this.mediaBroken(how),
      changed: () => this.agent.changed(),
    });
    if (this.state === "ended") { media.close(); throw new Failure(0, "the call is over"); }
    this.media = media;
    media.mute(this.muted);
  }

  // end ends the call here; what must be said to the far end was said.
  end(why, status) {
    if (this.state === "ended") return;
    this.state = "ended";
    this.why = why;
    for (const stop of this.repeats.values()) stop();
    this.env.clearTimeout(this.wantsRestart);
    if (this.media) this.media.close();
    if (this.settled) this.settled.reject(new Failure(status || 0, why));
    this.agent.callEnded(this);
  }

  // ---- the caller's part

  // dial resolves when the call is answered.
  async dial(uri) {
    const done = new Promise((resolve, reject) => { this.settled = { resolve, reject }; });
    done.catch(() => {}); // it may be over before anyone waits
    try {
      await this.openMedia();
      const offer = await this.media.offer();
      if (this.state !== "ended") this.sendInvite(uri, offer);
    } catch (e) {
      this.end(e.message);
    }
    return done;
  }

  sendInvite(uri, offer) {
    const callID = this.env.random(12), from = `${this.agent.self};tag=${this.env.random(5)}`;
    let sequence = 0;
    this.tx = this.agent.authorized(() => this.invite = new Message({ method: "INVITE", uri }).add("Max-Forwards", "70")
      .add("From", from).add("To", `<${uri}>`).add("Call-ID", callID).add("CSeq", `${++sequence} INVITE`)
      .add("Contact", this.agent.contact).add("Allow", allow).add("Supported", supported.join(", ")).sdp(offer),
    (res) => this.dialled(res));
  }

  dialled(res) {
    const tag = tagOf(res.get("to"));
    if (res.status < 200) {
      if (res.status === 100 || this.state === "ended") return;
      if (tag) this.provisional(res, tag);
      if (res.hasSDP) {
        this.early = res.body;
        this.describe(res.body).catch(() => {}); // the 2xx's decides
      }
      if (this.state === "calling" || this.state === "ringing") this.change("ringing");
      return;
    }
    if (res.status >= 300) {
      if (this.state === "ended") return;
      return this.end(`${res.status} ${res.reason}${warning(res)}`, res.status);
    }
    if (this.dialog && tag === this.dialog.remoteTag) return void this.acknowledge(this.dialog, this.invite);
    const dialog = this.forks.get(tag) || Dialog.caller(this.invite, res);
    dialog.learn(res);
    this.acknowledge(dialog, this.invite);
    if (this.dialog || this.state === "ended") return void this.agent.sendBye(dialog); // another fork, or too late
    this.dialog = dialog;
    this.answered = Date.now();
    this.change("active");
    this.describe(res.hasSDP ? res.body : this.early)
      .then(() => this.settled.resolve(), (e) => this.hangup(`the answer does not fit: ${e.message}`));
  }

  // provisional takes an answer that makes an early dialog, and acknowledges it
  // if that is asked for (RFC 3262 section 4).
  provisional(res, tag) {
    let d = this.forks.get(tag);
    if (!d) this.forks.set(tag, d = Dialog.caller(this.invite, res));
    else d.refresh(res);
    const rseq = parseInt(res.get("rseq"), 10);
    if (!res.tokens("require").includes("100rel") || !(rseq > 0)) return;
    if (d.rseq !== undefined && rseq !== d.rseq + 1) return;
    d.rseq = rseq;
    this.agent.authorized(() => d.request("PRACK").add("RAck", `${rseq} ${res.get("cseq")}`), () => {});
  }

  describe(sdp) {
    this.described = this.described.catch(() => {}).then(() => {
      if (this.state === "ended") return null;
      if (!sdp) throw new Failure(0, "it has no description");
      return this.media.accept(sdp);
    });
    return this.described;
  }

  acknowledge(dialog, invite) {
    const ack = dialog.request("ACK", invite.sequence).first("Via", this.layer.via());
    for (const name of ["authorization", "proxy-authorization"]) ack.add(name, ...invite.all(name)); // RFC 3261 section 22.1
    this.layer.send(ack);
  }

  // ---- the callee's part

  // come takes the INVITE.
  come(tx) {
    const m = tx.m;
    this.server = tx;
    this.invite = m;
    this.dialog = Dialog.callee(m, this.env.random(5));
    this.state = "incoming";
    const ringing = this.reply(m, 180, "Ringing").add("Contact", this.agent.contact);
    if (m.tokens("require").includes("100rel")) { // RFC 3262 section 3
      this.reliable = { number: 1 + parseInt(this.env.random(3), 16), of: m.get("cseq") };
      ringing.add("Require", "100rel").add("RSeq", String(this.reliable.number));
      this.repeat("180", () => this.layer.send(ringing), () => this.refuse(504, "Server Time-out", "our ringing was not acknowledged"));
    }
    this.layer.respond(tx, ringing);
    this.agent.changed();
  }

  reply(m, status, reason) { return this.layer.answerTo(m, status, reason, this.dialog && this.dialog.localTag).add("Record-Route", ...m.all("record-route")); }

  // repeat sends again until it is stopped, as an end-to-end acknowledgement is
  // owed also over TCP (RFC 3261 section 13.3.1.4).
  repeat(name, send, gaveUp) {
    let timer = 0;
    const next = (wait) => { timer = this.env.setTimeout(() => { send(); next(Math.min(2 * wait, T2)); }, wait); };
    const stop = () => { this.env.clearTimeout(timer); this.env.clearTimeout(end); this.repeats.delete(name); };
    const end = this.env.setTimeout(() => { stop(); gaveUp(); }, timeout);
    this.repeats.set(name, stop);
    next(T1);
  }

  stopRepeat(name) {
    const stop = this.repeats.get(name);
    if (stop) stop();
    return Boolean(stop);
  }

  refuse(status, reason, why) {
    this.layer.respond(this.server, this.reply(this.invite, status, reason));
    this.end(why || `${status} ${reason}`);
  }

  // take answers the call that rings here.
  async take() {
    if (this.state !== "incoming" || this.taking) throw new Failure(0, "no call rings here");
    this.taking = true;
    let sdp;
    try {
      await this.openMedia();
      sdp = await this.describeFor(this.invite);
    } catch (e) {
      if (this.state !== "ended") this.refuse(this.media ? 488 : 480, this.media ? "Not Acceptable Here" : "Temporarily Unavailable", e.message);
      throw e;
    }
    if (this.state === "ended") throw new Failure(0, "the call is over");
    this.answered = Date.now();
    this.change("active");
    this.accept(this.server, sdp);
  }

  // describeFor is our part of what an INVITE or UPDATE begins: the answer to its
  // offer, or an offer if it has none.
  async describeFor(m) {
    if (!m.hasSDP) return this.media.offer();
    const sdp = await this.media.answer(m.body);
    this.remoteHeld = heldBy(m.body);
    return sdp;
  }

  // accept sends a 2xx until its ACK comes.
  accept(tx, sdp) {
    const m = tx.m, ok = this.reply(m, 200, "OK").add("Contact", this.agent.contact).add("Allow", allow).add("Supported", supported.join(", ")).sdp(sdp);
    this.layer.respond(tx, ok);
    this.repeat(`200 ${m.sequence}`, () => this.layer.send(ok), () => this.hangup("our answer was not acknowledged"));
    if (!m.hasSDP) this.owed = m.sequence; // the ACK must bring the answer
  }

  acknowledged(m) {
    if (!this.stopRepeat(`200 ${m.sequence}`)) return;
    if (this.owed !== m.sequence) { this.serving = false; return; }
    this.owed = undefined;
    this.describe(m.hasSDP ? m.body : "")
      .then(() => { this.remoteHeld = heldBy(m.body); this.serving = false; this.agent.changed(); }, (e) => this.hangup(`the answer does not fit: ${e.message}`));
  }

  // ---- both

  // hangup ends the call, in the way that its moment asks for.
  hangup(why) {
    switch (this.state) {
    case "calling":
    case "ringing":
      if (this.tx) this.tx.cancel();
      break;
    case "incoming":
      this.layer.respond(this.server, this.reply(this.invite, 486, "Busy Here"));
      break;
    case "active":
      this.agent.sendBye(this.dialog);
      break;
    default:
      return;
    }
    this.end(why || "you hung up");
  }

  // dialogOf is the dialog of this call that a request is inside of.
  dialogOf(m) { return [this.dialog, ...this.forks.values()].find((d) => d && d.has(m)); }

  // inDialog takes such a request, but ACK and CANCEL.
  inDialog(m, d) {
    const say = (status, reason, more) => {
      const res = this.reply(m, status, reason);
      for (const [name, value] of Object.entries(more || {})) res.add(name, value);
      this.layer.send(res);
    };
    if (m.sequence < d.remoteSequence) return say(500, "Out of Order"); // RFC 3261 section 12.2.2
    d.remoteSequence = m.sequence;
    switch (m.method) {
    case "BYE":
      say(200, "OK");
      if (this.state === "incoming") this.layer.respond(this.server, this.reply(this.invite, 487, "Request Terminated"));
      return this.end(reasonText(m) || "the other side hung up");
    case "PRACK":
      if (!this.reliable || m.get("rack").replace(/\s+/g, " ") !== `${this.reliable.number} ${this.reliable.of}`) return say(481, "No Such Provisional Response");
      this.stopRepeat("180");
      return say(200, "OK");
    case "INVITE":
      return void this.renegotiated(m, d, this.layer.serve(m));
    case "UPDATE":
      return void this.renegotiated(m, d, { m, update: true });
    case "OPTIONS":
      return say(200, "OK", { Allow: allow, Accept: "application/sdp", Supported: supported.join(", ") });
    case "INFO":
      return say(200, "OK");
    case "NOTIFY": // of a subscription we do not have (RFC 6665 section 4.1.3)
      return say(481, "Subscription Does Not Exist");
    }
    say(405, "Method Not Allowed", { Allow: allow });
  }

  // renegotiated takes a re-INVITE or UPDATE.
  async renegotiated(m, d, tx) {
    if (!tx) return; // a repetition
    const respond = (res) => tx.update ? this.layer.send(res) : this.layer.respond(tx, res);
    if (tx.update && !m.hasSDP) { // a new target, or a session timer
      d.refresh(m);
      return respond(this.reply(m, 200, "OK").add("Contact", this.agent.contact).add("Allow", allow));
    }
    if (this.state === "incoming" || this.serving) return respond(this.reply(m, 500, "Server Internal Error").add("Retry-After", "1")); // RFC 3261 section 14.2
    if (this.offering || this.state !== "active") return respond(this.reply(m, 491, "Request Pending"));
    this.serving = true;
    let sdp;
    try {
      await this.described.catch(() => {});
      sdp = await this.describeFor(m);
    } catch (e) {
      this.serving = false;
      await this.media.rollback();
      if (this.state === "ended") return;
      return respond(this.reply(m, 488, "Not Acceptable Here").add("Warning", `399 ${this.agent.host} "${e.message.replace(/["\\\r\n]/g, " ")}"`));
    }
    if (this.state === "ended") return;
    d.refresh(m);
    if (tx.update) {
      this.serving = false;
      respond(this.reply(m, 200, "OK").add("Contact", this.agent.contact).add("Allow", allow).sdp(sdp));
    } else this.accept(tx, sdp);
    this.agent.changed();
  }

  // renegotiate makes a new offer, after those before it; change is undone if it
  // is refused.
  renegotiate(options, change, undo) {
    const mine = this.turn.catch(() => {}).then(async () => {
      if (this.state !== "active") throw new Failure(0, "no call is active");
      change();
      try {
        await this.offerAnew(options);
      } catch (e) {
        undo();
        throw e;
      }
    });
    this.turn = mine;
    return mine;
  }

  async offerAnew(options) {
    for (let attempt = 1; ; attempt++) {
      await this.agent.ready();
      while (this.serving && this.state === "active") await this.pause(50);
      if (this.state !== "active") throw new Failure(0, "the call is over");
      this.offering = true;
      let res;
      try {
        const sdp = await this.media.offer(options);
        const sent = await this.reinvite(sdp);
        res = sent.res;
        if (res.status < 300) {
          this.dialog.refresh(res);
          this.acknowledge(this.dialog, sent.invite);
          await this.describe(res.hasSDP ? res.body : "").catch((e) => { this.hangup(`the answer does not fit: ${e.message}`); throw e; });
          this.remoteHeld = heldBy(res.body);
          return this.agent.changed();
        }
        await this.media.rollback();
      } finally {
        this.offering = false;
      }
      if (res.status === 481 || res.status === 408 && !res.local) { // the far end has no such call (RFC 5057 section 5)
        this.hangup(`${res.status} ${res.reason}`);
      }
      if (!(res.status === 491 || res.local) || attempt === 4) throw new Failure(res.status, `${res.status} ${res.reason}${warning(res)}`);
      await this.pause(this.tx ? 2100 + attempt * 400 : attempt * 450); // who made the call waits longer (RFC 3261 section 14.1)
    }
  }

  reinvite(sdp) {
    return new Promise((resolve) => {
      let invite, done = false;
      this.agent.authorized(() => invite = this.dialog.request("INVITE").add("Contact", this.agent.contact).add("Allow", allow)
        .add("Supported", supported.join(", ")).sdp(sdp), (res) => {
        if (res.status < 200) return;
        if (done) { if (res.status < 300) this.acknowledge(this.dialog, invite); return; } // a repetition
        done = true;
        resolve({ res, invite });
      });
    });
  }

  pause(ms) { return new Promise((resolve) => { this.env.setTimeout(resolve, ms); }); }

  // hold sends nothing that was said here and asks for nothing (RFC 3264 section 8.4).
  hold(on) {
    const before = this.held;
    const apply = (v) => { this.held = v; this.media.hold(v); this.agent.changed(); };
    return this.renegotiate({}, () => apply(on), () => { if (this.state !== "ended") apply(before); });
  }

  mute(on) {
    this.muted = on;
    if (this.media) this.media.mute(on);
    this.agent.changed();
  }

  dtmf(digits) {
    if (this.state !== "active") throw new Failure(0, "no call is active");
    this.media.dtmf(digits);
  }

  restart() {
    this.env.clearTimeout(this.wantsRestart);
    this.wantsRestart = 0;
    return this.renegotiate({ iceRestart: true }, () => {}, () => {});
  }

  // mediaBroken asks for new candidates: at once if the path failed, after a
  // moment if it may come back by itself.
  mediaBroken(how) {
    if (this.state !== "active" || this.wantsRestart) return;
    this.wantsRestart = this.env.setTimeout(() => {
      if (this.state !== "active" || !this.media.isBroken()) { this.wantsRestart = 0; return; }
      this.restart().catch(() => {}).then(() => { if (this.state === "active") this.again(); });
    }, how === "failed" ? 0 : 2500);
  }

  // again looks after a while whether the restart helped.
  again() {
    this.env.setTimeout(() => { if (this.state === "active" && this.media.isBroken()) this.mediaBroken("failed"); }, 8000);
  }
}

function warning(res) {
  const m = /^\d+ \S+ (".*")$/.exec(res.get("warning"));
  return m ? `: ${unquoted(m[1])}` : "";
}

function reasonText(m) {
  const text = parameters(m.get("reason").replace(/^[^;]*/, "")).text;
  return text ? `the other side hung up: ${text}` : "";
}

// heldBy tells whether a description of the far end wants nothing from us.
function heldBy(sdp) {
  const directions = sdp.match(/^a=(sendrecv|sendonly|recvonly|inactive)\s*$/gm) || [];
  return /sendonly|inactive/.test(directions[directions.length - 1] || "");
}

// ---- 8 agent --------------------------------------------------------------

// Agent is one account: its registration, and at most one call.
class Agent {
  constructor(env, on) {
    Object.assign(this, { env, on, host: `${env.random(6)}.invalid`, link: null, call: null, registration: "none", why: "", waiting: [], user: "", sequence: 0, timer: 0 });
    this.layer = new Layer(env, this.host, (text) => this.link !== null && this.link.send(text), (way, m) => on.trace(way, m));
  }

  changed() { this.on.changed(); }

  // register opens the link and keeps the account registered; it resolves when it
  // is for the first time.
  register(account) {
    this.close();
    Object.assign(this, {
      account, user: account.user, domain: account.domain, self: `<sip:${userPart(account.user)}@${account.domain}>`,
      credentials: new Credentials(account.user, account.password, this.env.random), callID: this.env.random(12), tag: this.env.random(5),
      contact: `<sip:${this.env.random(5)}@${this.host};transport=ws;ob>`, expires: 600, refusals: 0, moved: false, registration: "registering", why: "",
    });
    const first = new Promise((resolve, reject) => { this.first = { resolve, reject }; });
    first.catch(() => {});
    this.link = new Link(this.env, account.url, {
      opened: () => this.refresh(),
      received: (text) => this.receive(text),
      changed: () => this.changed(),
      lost: () => this.lost(),
    });
    this.link.open();
    return first;
  }

  // unregister takes the contact away and closes the link.
  unregister() {
    if (this.call) this.call.hangup();
    if (this.registration !== "registered") return this.close();
    this.env.clearTimeout(this.timer);
    this.registration = "leaving";
    this.authorized(() => this.makeRegister(0), () => this.close());
    this.changed();
  }

  close() {
    if (this.call) this.call.hangup("the registration ended");
    this.env.clearTimeout(this.timer);
    if (this.link) this.link.close();
    this.link = null;
    this.layer.lost();
    this.registration = "none";
    for (const w of [this.first, ...this.waiting.splice(0)]) if (w) w.reject(new Failure(0, "given up"));
    this.credentials = null;
    this.changed();
  }

  makeRegister(expires) {
    const m = new Message({ method: "REGISTER", uri: `sip:${this.domain}` }).add("Max-Forwards", "70").add("From", `${this.self};tag=${this.tag}`).add("To", this.self)
      .add("Call-ID", this.callID).add("CSeq", `${++this.sequence} REGISTER`).add("Contact", `${this.contact};+sip.ice;reg-id=1;+sip.instance="<${this.account.instance}>"`);
    return m.add("Expires", String(expires)).add("Allow", allow).add("Supported", "outbound, path").add("User-Agent", "sallyport test phone");
  }

  refresh() {
    this.env.clearTimeout(this.timer);
    if (this.registration === "failed" || this.registration === "leaving") return;
    if (this.registration !== "registered") this.registration = "registering";
    this.authorized(() => this.makeRegister(this.expires), (res) => this.registered(res));
    this.changed();
  }

  registered(res) {
    if (res.local && res.status === 503 || this.registration === "leaving" || !this.link) return; // the link comes back, and asks again
    if (res.status < 300) {
      const moved = this.moved;
      this.moved = false;
      this.registration = "registered";
      this.refusals = 0;
      this.why = "";
      this.again(this.lifetime(res) * 0.8);
      this.first.resolve();
      for (const w of this.waiting.splice(0)) w.resolve();
      if (moved && this.call) this.call.restart().catch(() => {}); // it may be another network
    } else if (res.status === 423 && parseInt(res.get("min-expires"), 10) > this.expires) {
      this.expires = parseInt(res.get("min-expires"), 10);
      return this.refresh();
    } else if (res.status >= 500 || res.status === 408) {
      this.registration = "registering";
      this.why = `${res.status} ${res.reason}`;
      this.again(parseInt(res.get("retry-after"), 10) || Math.min(60, 2 ** ++this.refusals));
    } else {
      this.why = res.status === 401 || res.status === 407 || res.status === 403 ? `user or password is refused (${res.status})` : `${res.status} ${res.reason}`;
      this.first.reject(new Failure(res.status, this.why));
      this.close();
      this.registration = "failed";
    }
    this.changed();
  }

  // lifetime is for how long the far end has our contact, in seconds.
  lifetime(res) {
    const ours = res.list("contact").map(address).find((c) => c.uri === address(this.contact).uri);
    const said = parseInt(ours && ours.params.expires || res.get("expires"), 10);
    return said > 0 ? Math.max(said, 10) : this.expires;
  }

  again(seconds) {
    this.env.clearTimeout(this.timer);
    this.timer = this.env.setTimeout(() => { if (this.link && this.link.state === "open") this.refresh(); }, seconds * 1000);
  }

  lost() {
    this.env.clearTimeout(this.timer);
    if (this.registration === "leaving") return this.close();
    this.registration = "registering";
    this.moved = this.call !== null && this.call.state === "active";
    if (this.call && this.call.state === "incoming") this.call.end("the connection was lost");
    this.layer.lost();
    this.changed();
  }

  get isReady() { return this.link !== null && this.link.state === "open" && this.registration === "registered"; }

  // ready waits for a registered connection: the edge takes requests inside a
  // call from no other.
  ready() {
    if (this.isReady) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const w = { resolve, reject };
      this.waiting.push(w);
      this.env.setTimeout(() => { this.waiting = this.waiting.filter((x) => x !== w); reject(new Failure(0, "not connected")); }, timeout);
    });
  }

  // authorized sends what make returns, and once more with what a challenge
  // asks for; on is called with the rest of the answers.
  authorized(make, on) {
    let attempts = 0;
    const credentials = this.credentials, handle = { over: false, tx: null, cancel: () => { handle.over = true; this.layer.cancel(handle.tx); } };
    const go = () => {
      handle.tx = this.layer.request(credentials ? credentials.apply(make()) : make(), (res) => {
        if ((res.status === 401 || res.status === 407) && credentials && !handle.over && attempts < 3 && credentials.learn(res, attempts++ === 0)) return go();
        on(res);
      });
    };
    go();
    return handle;
  }

  sendBye(dialog) {
    const send = () => { this.authorized(() => dialog.request("BYE"), () => {}); };
    if (this.isReady) send(); // at once: the page may be on its way out
    else this.ready().then(send, () => {});
  }

  dial(target) {
    if (!this.isReady) return Promise.reject(new Failure(0, "register first"));
    if (this.call) return Promise.reject(new Failure(0, "one call at a time"));
    const uri = targetURI(target, this.domain);
    if (!uri) return Promise.reject(new Failure(0, "that is no number and no address"));
    this.call = new Call(this, (parseURI(uri) || {}).user || uri);
    this.changed();
    return this.call.dial(uri);
  }

  callEnded(call) {
    if (this.call === call) this.call = null;
    this.on.ended(call);
    this.changed();
  }

  receive(text) {
    const m = parse(text);
    if (!m) return;
    this.on.trace("<", m);
    if (m.status) this.layer.receive(m);
    else this.request(m);
  }

  say(m, status, reason, more) {
    const res = this.layer.answerTo(m, status, reason);
    for (const [name, value] of Object.entries(more || {})) res.add(name, value);
    this.layer.send(res);
  }

  request(m) {
    const call = this.call, tx = this.layer.serverOf(m);
    if (m.method === "ACK") {
      if (!(tx && tx.final >= 300) && call && call.dialog && call.dialog.has(m)) call.acknowledged(m);
      return;
    }
    if (m.method === "CANCEL") {
      if (!tx) return this.say(m, 481, "Call/Transaction Does Not Exist");
      this.say(m, 200, "OK");
      if (!tx.final && call && call.server === tx) call.refuse(487, "Request Terminated", "the caller gave up");
      return;
    }
    const foreign = m.tokens("require").filter((t) => !supported.includes(t));
    if (foreign.length > 0) return this.say(m, 420, "Bad Extension", { Unsupported: foreign.join(", ") });
    if (tagOf(m.get("to"))) {
      const d = call && call.dialogOf(m);
      return d ? call.inDialog(m, d) : this.say(m, 481, "Call/Transaction Does Not Exist");
    }
    switch (m.method) {
    case "INVITE":
      return this.incoming(m);
    case "OPTIONS":
      return this.say(m, call ? 486 : 200, call ? "Busy Here" : "OK", { Allow: allow, Accept: "application/sdp", Supported: supported.join(", ") });
    case "NOTIFY": // of messages that wait, as PBXs send it unasked
      return m.get("event").startsWith("message-summary") ? this.say(m, 200, "OK") : this.say(m, 481, "Subscription Does Not Exist");
    case "BYE": case "UPDATE": case "PRACK": case "INFO":
      return this.say(m, 481, "Call/Transaction Does Not Exist");
    }
    this.say(m, 405, "Method Not Allowed", { Allow: allow });
  }

  incoming(m) {
    const tx = this.layer.serve(m);
    if (!tx) return;
    if (this.call || this.registration === "leaving") return this.layer.respond(tx, this.layer.answerTo(m, 486, "Busy Here"));
    if (m.body !== "" && !m.hasSDP) return this.layer.respond(tx, this.layer.answerTo(m, 415, "Unsupported Media Type").add("Accept", "application/sdp"));
    this.call = new Call(this, named(address(m.get("from"))));
    this.call.come(tx);
  }
}

// userPart escapes what a URI's user may not have (RFC 3261 section 25.1).
const userPart = (s) => encodeURIComponent(s).replace(/%(26|3D|2B|24|2C|3B|3F|2F)/g, (e) => decodeURIComponent(e));

// targetURI reads what a person types: a number, user@host, or a URI.
function targetURI(text, domain) {
  const s = text.trim();
  if (s === "" || /[\s<>"]/.test(s.replace(/^\+?[\d\s().-]+$/, ""))) return "";
  if (/^sips?:/i.test(s)) return parseURI(s) ? s : "";
  if (/^\+?[\d\s().-]+$/.test(s)) return `sip:${s.replace(/[\s().-]/g, "")}@${domain}`;
  const at = s.lastIndexOf("@");
  const uri = at < 0 ? `sip:${userPart(s)}@${domain}` : `sip:${userPart(s.slice(0, at))}@${s.slice(at + 1)}`;
  return parseURI(uri) ? uri : "";
}

globalThis.sallyport = { utf8, md5, sha256, parse, Message, address, parseURI, split, challenge, answer, Credentials, Dialog, Agent, targetURI, heldBy };
if (typeof document === "undefined") return; // sections 1 to 8 alone, as tests run them

// ---- 9 media --------------------------------------------------------------

const gatherWithin = 1000; // ms; the edge is public, so host candidates do

// Media is the audio of one call: a microphone, a connection, and what is heard.
class Media {
  // open asks for the microphone. Raw is sound as it is: what removes echo and
  // noise takes a tone, or music, for either.
  static async open(on, raw) {
    let mic, silent = false;
    try {
      mic = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: !raw, noiseSuppression: !raw, autoGainControl: !raw } });
    } catch (e) {
      if (e.name === "NotAllowedError") throw new Failure(0, "the browser was not allowed to use the microphone");
      if (e.name !== "NotFoundError") throw new Failure(0, `the microphone cannot be used: ${e.message}`);
      silent = true; // a call without a microphone still shows and plays a lot
    }
    const context = silent ? new AudioContext() : null;
    return new Media(mic || context.createMediaStreamDestination().stream, context, on);
  }

  constructor(mic, context, on) {
    Object.assign(this, { mic, context, remote: new MediaStream(), accepted: "" });
    this.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", rtcpMuxPolicy: "require", iceServers: [] });
    this.track = mic.getAudioTracks()[0];
    this.sender = this.pc.addTrack(this.track, mic);
    this.pc.ontrack = (e) => { this.remote.addTrack(e.track); on.changed(); };
    this.pc.oniceconnectionstatechange = () => {
      if (this.pc.iceConnectionState === "failed" || this.pc.iceConnectionState === "disconnected") on.broken(this.pc.iceConnectionState);
      on.changed();
    };
  }

  get silent() { return this.context !== null; }
  isBroken() { return ["failed", "disconnected"].includes(this.pc.iceConnectionState); }

  gathered() {
    return new Promise((resolve) => {
      const done = () => { if (this.pc.iceGatheringState === "complete") resolve(); };
      this.pc.addEventListener("icegatheringstatechange", done);
      setTimeout(resolve, gatherWithin);
      done();
    });
  }

  async offer(options) {
    await this.pc.setLocalDescription(await this.pc.createOffer(options));
    await this.gathered();
    return this.pc.localDescription.sdp;
  }

  async answer(sdp) {
    await this.pc.setRemoteDescription({ type: "offer", sdp });
    await this.pc.setLocalDescription(await this.pc.createAnswer());
    await this.gathered();
    return this.pc.localDescription.sdp;
  }

  // accept takes an answer. Firefox does nothing upon a provisional one (RFC 8829
  // section 4.1.10.1), so what comes before the call is answered is taken for
  // final; another answer that follows is then one to the same offer made again.
  async accept(sdp) {
    if (this.pc.signalingState === "stable") {
      if (sdp === this.accepted) return;
      await this.pc.setLocalDescription(await this.pc.createOffer());
    }
    await this.pc.setRemoteDescription({ type: "answer", sdp });
    this.accepted = sdp;
  }

  // rollback forgets an offer that was refused (RFC 8829 section 4.1.10.2).
  async rollback() {
    const { signalingState } = this.pc;
    if (signalingState === "have-local-offer") await this.pc.setLocalDescription({ type: "rollback" });
    if (signalingState === "have-remote-offer") await this.pc.setRemoteDescription({ type: "rollback" });
  }

  // hold stops what we send: some PBXs mix it with the music that they play.
  hold(on) {
    for (const t of this.pc.getTransceivers()) t.direction = on ? "sendonly" : "sendrecv";
    this.sender.replaceTrack(on ? null : this.track).catch(() => {}); // the call has ended
  }

  mute(on) { this.track.enabled = !on; }

  dtmf(digits) {
    const sender = this.sender.dtmf;
    if (!sender || !sender.canInsertDTMF) throw new Failure(0, "the other side takes no DTMF (RFC 4733)");
    sender.insertDTMF(sender.toneBuffer + digits, 120, 70);
  }

  async stats() {
    const out = { mic: null, ear: null, received: 0, sent: 0, lost: 0, jitter: null, rtt: null, codec: "", ice: this.pc.iceConnectionState };
    const report = await this.pc.getStats(), codecs = new Map();
    let pathRTT = null;
    report.forEach((s) => { if (s.type === "codec") codecs.set(s.id, s.mimeType.replace("audio/", "")); });
    report.forEach((s) => {
      if (s.type === "media-source" && s.kind === "audio" && s.audioLevel !== undefined) out.mic = s.audioLevel;
      if (s.type === "outbound-rtp") Object.assign(out, { sent: s.packetsSent, codec: codecs.get(s.codecId) || "" });
      if (s.type === "inbound-rtp") {
        Object.assign(out, { received: s.packetsReceived, lost: s.packetsLost, jitter: s.jitter });
        if (s.audioLevel !== undefined) out.ear = s.audioLevel;
      }
      if (s.type === "remote-inbound-rtp" && s.roundTripTime !== undefined) out.rtt = s.roundTripTime;
      if (s.type === "candidate-pair" && s.nominated && s.currentRoundTripTime !== undefined) pathRTT = s.currentRoundTripTime;
    });
    if (out.rtt === null) out.rtt = pathRTT; // to the edge alone: the far end sends no reports
    return out;
  }

  close() {
    this.pc.close();
    for (const t of this.mic.getTracks()) t.stop();
    if (this.context) this.context.close();
  }
}

// ---- 10 page --------------------------------------------------------------

const $ = (id) => document.getElementById(id);

// instance names this tab to the edge, also after a reload (RFC 5626 section 4.1):
// the tab's storage, as two tabs of one browser are two phones.
function instance() {
  let id = sessionStorage.getItem("instance");
  if (!id) sessionStorage.setItem("instance", id = `urn:uuid:${crypto.randomUUID()}`);
  return id;
}

const listeners = new Set();
let lastEnd = "", lastStats = null, drawn = false, raw = false;

const agent = new Agent({
  connect: (url) => {
    const s = new WebSocket(url, "sip");
    s.binaryType = "arraybuffer";
    return s;
  },
  openMedia: (on) => Media.open(on, raw),
  setTimeout: (f, ms) => setTimeout(f, ms),
  clearTimeout: (t) => clearTimeout(t),
  random: (n) => Array.from(crypto.getRandomValues(new Uint8Array(n)), (b) => b.toString(16).padStart(2, "0")).join(""),
}, {
  changed: () => {
    if (drawn) return;
    drawn = true;
    queueMicrotask(() => { drawn = false; render(); for (const f of listeners) f(phone.state); });
  },
  ended: (call) => { lastEnd = call.why; },
  trace: (way, m) => trace(`${way} ${m.method ? `${m.method} ${m.uri}` : `${m.status} ${m.reason} (${m.sequenceMethod})`}`),
});

// phone is what the page's buttons use, and who drives the page by a script.
const phone = {
  // register takes {user, password, domain, url}; the last two have defaults.
  register: (account) => agent.register({ domain: document.body.dataset.domain, url: `wss://${location.host}/ws`, instance: instance(), ...account }),
  unregister: () => agent.unregister(),
  call: (target) => { lastEnd = ""; return agent.dial(target); },
  answer: () => current().take(),
  hangup: () => { if (agent.call) agent.call.hangup(); },
  dtmf: (digits) => current().dtmf(digits),
  mute: (on) => current().mute(on),
  hold: (on) => current().hold(on),
  raw: (on) => { raw = on; render(); }, // of the next call
  restartICE: () => current().restart(),
  stats: () => agent.call && agent.call.media ? agent.call.media.stats() : Promise.resolve(null),
  // listen calls f with the state after each change; what it returns ends that.
  listen: (f) => { listeners.add(f); return () => listeners.delete(f); },
  get remoteStream() { return agent.call && agent.call.media ? agent.call.media.remote : null; },
  get state() {
    const c = agent.call;
    return {
      connection: agent.link ? agent.link.state : "closed", registration: agent.registration, why: agent.why, user: agent.user,
      call: c ? c.state : "none", peer: c ? c.peer : "", muted: c !== null && c.muted, held: c !== null && c.held,
      remoteHeld: c !== null && c.remoteHeld, ice: c && c.media ? c.media.pc.iceConnectionState : "", lastEnd,
    };
  },
};
window.phone = Object.freeze(phone);

function current() {
  if (!agent.call) throw new Failure(0, "there is no call");
  return agent.call;
}

function say(text) { $("notice").textContent = text; }

const registrations = { none: "not registered", registering: "registering…", registered: "registered", failed: "refused", leaving: "leaving…" };
const calls = { none: "no call", calling: "calling", ringing: "ringing at", incoming: "call from", active: "in a call with", ended: "no call" };

function render() {
  const s = phone.state, c = agent.call;
  const at = s.registration === "registered" ? ` as ${s.user}` : s.why ? `: ${s.why}` : s.connection === "waiting" ? ": no connection, trying again" : "";
  $("registration").textContent = registrations[s.registration] + at;
  $("registration").dataset.state = s.registration;
  const held = s.held ? ", on hold" : s.remoteHeld ? ", held by the other side" : "", path = s.call === "active" && !/connected|completed/.test(s.ice) ? `, media ${s.ice}` : "";
  $("call-state").textContent = c ? `${calls[s.call]} ${s.peer}${held}${s.muted ? ", muted" : ""}${path}` : lastEnd ? `no call; the last ended: ${lastEnd}` : "no call";
  $("call-state").dataset.state = s.call;
  document.title = s.call === "incoming" ? `☎ ${s.peer} calls` : "Test phone";
  const open = s.registration === "registered" || s.registration === "registering";
  $("register").textContent = open ? "Unregister" : "Register";
  for (const id of ["user", "password"]) $(id).disabled = open;
  $("dial").disabled = s.registration !== "registered" || s.call !== "none";
  $("answer").hidden = s.call !== "incoming";
  $("hangup").disabled = s.call === "none";
  for (const id of ["mute", "hold", "restart"]) $(id).disabled = s.call !== "active";
  for (const b of $("keys").children) b.disabled = s.call !== "active";
  $("raw").checked = raw;
  $("mute").setAttribute("aria-pressed", String(s.muted));
  $("hold").setAttribute("aria-pressed", String(s.held));
  const ear = $("ear"), stream = phone.remoteStream;
  if (ear.srcObject !== stream) {
    ear.srcObject = stream;
    if (stream) ear.play().catch(() => say("The browser keeps the sound off until you touch the page."));
  }
  if (c && c.media && c.media.silent) say("No microphone was found: the other side hears silence.");
  watch(c !== null && c.media !== null);
}

// attempt runs what a button does, and shows why it failed.
const attempt = (f) => async (event) => {
  if (event) event.preventDefault();
  say("");
  try { await f(event); } catch (e) { say(e.message); }
};

function trace(line) {
  const log = $("trace");
  log.append(`${new Date().toISOString().slice(11, 23)} ${line}\n`);
  while (log.childNodes.length > 300) log.firstChild.remove();
}

// ---- the plot

const kept = 150, every = 200; // half a minute of five samples a second
const samples = [];
let watching = 0;

function watch(on) {
  if (on && !watching) {
    lastStats = null;
    watching = setInterval(sample, every);
  }
  if (!on && watching) { clearInterval(watching); watching = 0; }
}

async function sample() {
  const s = await phone.stats().catch(() => null);
  if (!s) return;
  const before = lastStats && lastStats.received <= s.received ? lastStats : { received: 0, lost: 0 };
  const lost = Math.max(0, s.lost - before.lost), all = lost + s.received - before.received;
  lastStats = s;
  samples.push({ mic: s.mic, ear: s.ear, loss: all > 0 ? lost / all : 0, jitter: s.jitter, rtt: s.rtt });
  if (samples.length > kept) samples.shift();
  const ms = (v) => v === null || v === undefined ? "–" : `${(v * 1000).toFixed(0)} ms`;
  const total = s.received + s.lost;
  for (const [id, text] of [["loss", total ? `${(100 * s.lost / total).toFixed(1)} %` : "–"], ["jitter", ms(s.jitter)], ["rtt", ms(s.rtt)], ["codec", s.codec || "–"], ["packets", `${s.sent} / ${s.received}`]]) $(id).textContent = text;
  draw();
}

// draw paints levels above, and loss, jitter and round trip below.
function draw() {
  const canvas = $("plot"), scale = devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight, half = h / 2;
  if (canvas.width !== w * scale || canvas.height !== h * scale) { canvas.width = w * scale; canvas.height = h * scale; }
  const g = canvas.getContext("2d"), style = getComputedStyle(canvas), worst = Math.max(0.05, ...samples.map((s) => Math.max(s.jitter || 0, s.rtt || 0)));
  g.setTransform(scale, 0, 0, scale, 0, 0);
  g.clearRect(0, 0, w, h);
  g.strokeStyle = style.getPropertyValue("--line");
  g.strokeRect(0.5, 0.5, w - 1, half - 1);
  g.strokeRect(0.5, half + 0.5, w - 1, half - 1);
  g.fillStyle = style.color;
  g.font = "11px sans-serif";
  g.fillText("level, 0 to −60 dB", 6, 14);
  g.fillText(`0 to ${(worst * 1000).toFixed(0)} ms, 0 to 20 % lost`, 6, half + 14);
  const decibels = (v) => v === null ? null : v > 0 ? Math.max(0, 1 + Math.log10(v) / 3) : 0;
  const curves = [
    ["--mic", 0, (s) => decibels(s.mic)], ["--ear", 0, (s) => decibels(s.ear)],
    ["--loss", half, (s) => Math.min(1, s.loss * 5)], ["--jitter", half, (s) => s.jitter === null ? null : s.jitter / worst], ["--rtt", half, (s) => s.rtt === null ? null : s.rtt / worst],
  ];
  for (const [colour, top, value] of curves) {
    g.strokeStyle = style.getPropertyValue(colour);
    g.beginPath();
    samples.forEach((s, i) => {
      const v = value(s), x = i * w / (kept - 1), y = top + 2 + (half - 4) * (1 - v);
      if (v === null || v === undefined) return;
      if (i === 0) g.moveTo(x, y); else g.lineTo(x, y);
    });
    g.stroke();
  }
}

// ---- the controls

$("account").addEventListener("submit", attempt(async () => {
  if (agent.link) return phone.unregister();
  const password = $("password").value;
  await phone.register({ user: $("user").value.trim(), password });
  $("password").value = "";
  $("number").focus();
}));
$("dialler").addEventListener("submit", attempt(() => phone.call($("number").value)));
$("answer").addEventListener("click", attempt(() => phone.answer()));
$("hangup").addEventListener("click", attempt(() => phone.hangup()));
$("mute").addEventListener("click", attempt(() => phone.mute(!phone.state.muted)));
$("hold").addEventListener("click", attempt(() => phone.hold(!phone.state.held)));
$("raw").addEventListener("change", () => phone.raw($("raw").checked));
$("restart").addEventListener("click", attempt(() => phone.restartICE()));
for (const key of "123456789*0#") {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = key;
  b.setAttribute("aria-label", { "*": "star", "#": "hash" }[key] || key);
  b.addEventListener("click", attempt(() => phone.dtmf(key)));
  $("keys").append(b);
}
document.addEventListener("keydown", (e) => { // digits typed outside of a field, in a call
  if (phone.state.call === "active" && /^[0-9*#]$/.test(e.key) && !/INPUT/.test(e.target.tagName) && !e.ctrlKey && !e.altKey && !e.metaKey) attempt(() => phone.dtmf(e.key))();
});
addEventListener("online", () => { if (agent.link) agent.link.hasten(); });
addEventListener("pagehide", () => phone.hangup());

// A link may fill in what is no secret: /phone#user=101&call=600&raw
const given = new URLSearchParams(location.hash.slice(1));
$("user").value = given.get("user") || "";
$("number").value = given.get("call") || "";
raw = given.has("raw");
$("domain").textContent = document.body.dataset.domain;
if (!window.RTCPeerConnection || !navigator.mediaDevices) say("This browser has no WebRTC, or the page did not come by https.");
render();

})();
