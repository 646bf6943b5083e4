package sdp

// static are the payload types that need no rtpmap (RFC 3551 tables 4 and 5).
// It is only read.
var static = map[string]Format{
	"0":  {Codec: "PCMU", ClockRate: 8000},
	"3":  {Codec: "GSM", ClockRate: 8000},
	"4":  {Codec: "G723", ClockRate: 8000},
	"5":  {Codec: "DVI4", ClockRate: 8000},
	"6":  {Codec: "DVI4", ClockRate: 16000},
	"7":  {Codec: "LPC", ClockRate: 8000},
	"8":  {Codec: "PCMA", ClockRate: 8000},
	"9":  {Codec: "G722", ClockRate: 8000}, // samples at 16 kHz; RFC 3551 section 4.5.2 keeps the old mistake
	"10": {Codec: "L16", ClockRate: 44100, Channels: 2},
	"11": {Codec: "L16", ClockRate: 44100},
	"12": {Codec: "QCELP", ClockRate: 8000},
	"13": {Codec: "CN", ClockRate: 8000},
	"14": {Codec: "MPA", ClockRate: 90000},
	"15": {Codec: "G728", ClockRate: 8000},
	"16": {Codec: "DVI4", ClockRate: 11025},
	"17": {Codec: "DVI4", ClockRate: 22050},
	"18": {Codec: "G729", ClockRate: 8000},
	"25": {Codec: "CelB", ClockRate: 90000},
	"26": {Codec: "JPEG", ClockRate: 90000},
	"28": {Codec: "nv", ClockRate: 90000},
	"31": {Codec: "H261", ClockRate: 90000},
	"32": {Codec: "MPV", ClockRate: 90000},
	"33": {Codec: "MP2T", ClockRate: 90000},
	"34": {Codec: "H263", ClockRate: 90000},
}

// newFormat is an entry of an m-line before its attributes.
func newFormat(proto Proto, name string) Format {
	var f Format
	if proto.RTP() {
		f = static[name]
	}
	f.Name = name
	return f
}
