package message

import (
	"strconv"
	"strings"

	"github.com/emiago/sipgo/sip"

	"github.com/sallyport/sallyport/cmd/internal/nameaddr"
)

// Draft is a message that is being written. It is the caller's, and not for
// concurrent use.
type Draft struct {
	start  string
	fields []string // name, value, name, value
	body   string
}

// Request begins one.
func Request(method, uri string) *Draft { return &Draft{start: method + " " + uri + " SIP/2.0"} }

// Answer begins the response to a request (RFC 3261 section 8.2.6.2), with a
// tag in its To if there is none yet.
func Answer(to *sip.Request, status int, reason, tag string) *Draft {
	d := &Draft{start: "SIP/2.0 " + strconv.Itoa(status) + " " + reason}
	for _, via := range All(to, "Via") {
		d.Add("Via", via)
	}
	for _, route := range All(to, "Record-Route") {
		d.Add("Record-Route", route)
	}
	local := Get(to, "To")
	if nameaddr.Tag(local) == "" && tag != "" {
		local += ";tag=" + tag
	}
	d.Add("From", Get(to, "From")).Add("To", local).Add("Call-ID", Get(to, "Call-ID"))
	return d.Add("CSeq", to.CSeq().Value())
}

// Add adds a header field.
func (d *Draft) Add(name, value string) *Draft {
	d.fields = append(d.fields, name, value)
	return d
}

// Set replaces the first header field of a name, or adds it.
func (d *Draft) Set(name, value string) *Draft {
	for i := 0; i < len(d.fields); i += 2 {
		if d.fields[i] == name {
			d.fields[i+1] = value
			return d
		}
	}
	return d.Add(name, value)
}

// Drop takes away all header fields of a name.
func (d *Draft) Drop(name string) {
	kept := d.fields[:0]
	for i := 0; i < len(d.fields); i += 2 {
		if d.fields[i] != name {
			kept = append(kept, d.fields[i], d.fields[i+1])
		}
	}
	d.fields = kept
}

// Get is the value of the first header field of a name that was added.
func (d *Draft) Get(name string) string {
	if all := d.All(name); len(all) > 0 {
		return all[0]
	}
	return ""
}

// SDP gives it a session description; none if that is empty.
func (d *Draft) SDP(description string) *Draft {
	if d.body = description; description != "" {
		d.Set("Content-Type", "application/sdp")
	}
	return d
}

// Body is what SDP gave it.
func (d *Draft) Body() string { return d.body }

// All are the values of all header fields of a name.
func (d *Draft) All(name string) (values []string) {
	for i := 0; i < len(d.fields); i += 2 {
		if d.fields[i] == name {
			values = append(values, d.fields[i+1])
		}
	}
	return values
}

// Bytes is the message. They are the caller's.
func (d *Draft) Bytes() []byte {
	size := len(d.start) + len(d.body) + 32
	for _, s := range d.fields {
		size += len(s) + 2
	}
	var b strings.Builder
	b.Grow(size)
	b.WriteString(d.start + "\r\n")
	for i := 0; i < len(d.fields); i += 2 {
		b.WriteString(d.fields[i])
		b.WriteString(": ")
		b.WriteString(d.fields[i+1])
		b.WriteString("\r\n")
	}
	b.WriteString("Content-Length: " + strconv.Itoa(len(d.body)) + "\r\n\r\n")
	b.WriteString(d.body)
	return []byte(b.String())
}
