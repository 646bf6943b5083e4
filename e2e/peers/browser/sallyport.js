// The web phone that the edge itself serves. This runs before the page's own
// script, which makes window.phone.
"use strict";
{
  let before = { registration: "", call: "none" };
  let offersVideo = false;

  const follow = (state) => {
    if (state.registration !== before.registration) {
      if (state.registration === "registered") tell("registered");
      if (state.registration === "failed") tell("refused", state.why);
    }
    if (state.call !== before.call) {
      if (state.call === "incoming") tell("incoming", state.peer);
      if (state.call === "active") tell("established");
      if (before.call !== "none" && (state.call === "none" || state.call === "ended")) tell("ended", state.lastEnd);
      if (state.call === "ended") state = { ...state, call: "none" };
    }
    if (state.connection === "waiting" && before.connection !== "waiting") tell("disconnected");
    before = state;
  };

  tested.complete = () => Boolean(window.phone);
  tested.start = (user, password) => {
    window.phone.listen(follow);
    return window.phone.register({ user, password });
  };
  tested.call = (number, video) => {
    offersVideo = Boolean(video);
    window.phone.call(number).catch((err) => tell("rejected", err.message)); // it ends with the answer
  };
  tested.answer = () => window.phone.answer();
  tested.hangUp = () => window.phone.hangup();
  tested.hold = () => window.phone.hold(true);
  tested.resume = () => window.phone.hold(false);
  tested.restartICE = () => window.phone.restartICE();
  tested.dtmf = (digits) => window.phone.dtmf(digits);

  // What its buttons do not do: it asks for speech, offers no picture, and does
  // not say by which response it learned that the other side rings.
  const devices = navigator.mediaDevices;
  const open = devices.getUserMedia.bind(devices);
  devices.getUserMedia = () => open(tested.media(false));
  const add = RTCPeerConnection.prototype.addTrack;
  RTCPeerConnection.prototype.addTrack = function (...args) {
    const sender = add.apply(this, args);
    if (offersVideo) this.addTransceiver("video");
    return sender;
  };
  const Socket = WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", ({ data }) => {
        const progress = /^SIP\/2\.0 (18\d)/.exec(typeof data === "string" ? data : new TextDecoder().decode(data));
        if (progress) tell("progress", progress[1]);
      });
    }
  };
}
