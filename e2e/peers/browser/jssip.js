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

  tested.start = (user, password) => {
    ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(tested.server)],
      uri: `sip:${user}@${tested.domain}`,
      password,
      instance_id: tested.instance(),
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
  tested.call = (number, video) => {
    ua.call(`sip:${number}@${tested.domain}`, { mediaConstraints: tested.media(video) });
  };
  tested.answer = (video) => session.answer({ mediaConstraints: tested.media(video) });
  tested.hangUp = () => session.terminate();
  tested.hold = () => change((done) => session.hold({}, done));
  tested.resume = () => change((done) => session.unhold({}, done));
  tested.restartICE = () => change((done) => session.renegotiate({ rtcOfferConstraints: { iceRestart: true } }, done));
  tested.dtmf = (digits) => session.sendDTMF(digits, { transportType: "RFC2833", interToneGap: 70 });
}
