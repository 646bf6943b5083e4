package peers

import "time"

// StartAnswerer has sallyload stand in the PBX's place: it asks everybody for the
// password that Asterisk's accounts have, and every call is an echo.
func StartAnswerer(l *Lab, args ...string) *Process {
	l.t.Helper()
	all := append([]string{"answer", "--listen", "udp:" + PBXAddr + ":5060", "--password", "secret-%s"}, args...)
	p := l.start("answerer", l.PBX.Command(built(l.t, "SALLYLOAD_BIN", "sallyload"), all...))
	p.WaitLog("sallyload answers at", 10*time.Second)
	return p
}
