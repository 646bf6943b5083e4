// The web phone on JsSIP.
"use strict";
{
  let ua, session;

  const follow = (s) => {
    session = s;
    s.on("progress", ({ response }) => tell("progress", response ? response.status_code : ""));
    s.on("confirmed", () => tell("established"));
    s.on("ended", ({ cause }) => tell("ended", cause));
    s.on("failed", ({ cause, message }) => tell("ended", (message && message.status_code) || cause));
  };
  // done is called by the stack, unless it refuses at once.
  const change = (what) =>
    new Promise((done, refuse) => {
      if (!what(done)) refuse(new Error("not now"));
    });

  phone.start = (user, password) => {
    ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(phone.server)],
      uri: `sip:${user}@${phone.domain}`,
      password,
      instance_id: phone.instance(),
    });
    ua.on("registered", () => tell("registered"));
    ua.on("registrationFailed", ({ cause }) => tell("refused", cause));
    ua.on("disconnected", ({ code }) => tell("disconnected", code));
    ua.on("newRTCSession", ({ originator, session }) => {
      follow(session);
      if (originator === "remote") tell("incoming", session.remote_identity.uri.user);
    });
    ua.start();
  };
  phone.call = (number, video) => {
    ua.call(`sip:${number}@${phone.domain}`, { mediaConstraints: phone.media(video) });
  };
  phone.answer = (video) => session.answer({ mediaConstraints: phone.media(video) });
  phone.hangUp = () => session.terminate();
  phone.hold = () => change((done) => session.hold({}, done));
  phone.resume = () => change((done) => session.unhold({}, done));
  phone.restartICE = () => change((done) => session.renegotiate({ rtcOfferConstraints: { iceRestart: true } }, done));
  phone.dtmf = (digits) => session.sendDTMF(digits, { transportType: "RFC2833" });
}
