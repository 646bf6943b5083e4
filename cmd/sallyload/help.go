package main

import (
	"fmt"
	"io"
)

func usage(w io.Writer) {
	fmt.Fprint(w, "usage: sallyload COMMAND --target HOST:PORT [FLAGS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.help)
	}
	fmt.Fprintf(w, "  %-9s %s\n", "answer", "a PBX's place, by plain UDP: everybody registers, every call is an echo")
	fmt.Fprint(w, `
sallyload COMMAND --help lists a command's flags. Arrivals are an open loop, and
latencies count from when each was due. It ends by itself, with status 1 if
anything failed; Ctrl-C hangs up all calls, takes registrations back, and reports
what was done until then, with status 1 if anything of that failed, or if that was
nothing.

With --media each phone speaks a tone by PCMU or PCMA, as the answer says, must hear
its peer's, and sends and reads RTCP. Without, calls are described as a phone does
(SDES) or by WSS as a browser does (DTLS), and no packet is sent. Phones that come
back make full TLS handshakes, the most that a server must bear; --resume has them
resume their sessions, as most phones do.
`)
}
