package peers

import (
	"fmt"
	"strings"
)

// videoPayload is the payload type of a VideoLine.
const videoPayload = 99

// NewVideo opens ports for a second m-line. No frame of it is decoded by
// anybody on the way, so it carries a tone as well.
func (p *Phone) NewVideo(suite string) *Media {
	p.t.Helper()
	m := p.NewMedia(suite)
	m.Payload = videoPayload
	return m
}

// VideoLine is the m-line that follows the phone's sound in a description.
func (m *Media) VideoLine() string {
	return fmt.Sprintf("m=video %d RTP/SAVP %d\r\na=rtpmap:%[2]d H264/90000\r\n%s\r\n", m.Addr().Port(), videoPayload, m.CryptoLine(1))
}

// Line is the part of a description that is about its m-line n, with what the
// description says for all.
func Line(sdp string, n int) string {
	parts := strings.Split(sdp, "\r\nm=")
	if n+1 >= len(parts) {
		return ""
	}
	end := "\r\n"
	if n+2 == len(parts) {
		end = ""
	}
	return parts[0] + "\r\nm=" + parts[n+1] + end
}
