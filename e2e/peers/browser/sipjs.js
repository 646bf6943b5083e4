// The web phone on SIP.js.
"use strict";
{
  let ua, session;

  const follow = (s) => {
    session = s;
    s.stateChange.addListener((state) => {
      if (state === "Established") tell("established");
      if (state === "Terminated") tell("ended");
    });
  };
  const change = (what) =>
    new Promise((done, refuse) => {
      const options = { constraints: tested.media(), ...what }; // or it opens the microphone anew
      session.sessionDescriptionHandlerOptionsReInvite = options;
      session
        .invite({
          sessionDescriptionHandlerOptions: options,
          requestDelegate: { onAccept: done, onReject: (r) => refuse(new Error(`${r.message.statusCode}`)) },
        })
        .catch(refuse);
    });

  tested.start = async (user, password) => {
    ua = new SIP.UserAgent({
      uri: SIP.UserAgent.makeURI(`sip:${user}@${tested.domain}`),
      transportOptions: { server: tested.server },
      authorizationUsername: user,
      authorizationPassword: password,
      instanceId: tested.instance(),
      logLevel: "warn",
      sessionDescriptionHandlerFactoryOptions: { peerConnectionConfiguration: { iceServers: [] } },
      delegate: {
        onDisconnect: (err) => tell("disconnected", err),
        onInvite: (invitation) => {
          follow(invitation);
          tell("incoming", invitation.remoteIdentity.uri.user);
        },
      },
    });
    await ua.start();
    const registerer = new SIP.Registerer(ua, { regId: 1 });
    registerer.stateChange.addListener((state) => state === "Registered" && tell("registered"));
    await registerer.register({ requestDelegate: { onReject: (r) => tell("refused", r.message.statusCode) } });
  };
  tested.call = (number, video) => {
    const inviter = new SIP.Inviter(ua, SIP.UserAgent.makeURI(`sip:${number}@${tested.domain}`), {
      earlyMedia: true,
      sessionDescriptionHandlerOptions: { constraints: tested.media(video) },
    });
    follow(inviter);
    return inviter.invite({
      requestDelegate: {
        onProgress: (r) => tell("progress", r.message.statusCode),
        onReject: (r) => tell("rejected", r.message.statusCode),
      },
    });
  };
  tested.answer = (video) => session.accept({ sessionDescriptionHandlerOptions: { constraints: tested.media(video) } });
  tested.hangUp = () => {
    if (session.state === "Established") return session.bye();
    return session instanceof SIP.Inviter ? session.cancel() : session.reject();
  };
  tested.hold = () => change({ hold: true });
  tested.resume = () => change({ hold: false });
  tested.restartICE = () => change({ offerOptions: { iceRestart: true } });
  tested.dtmf = (digits) => session.sessionDescriptionHandler.sendDtmf(digits);
}
