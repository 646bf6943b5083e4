package phone

import (
	_ "embed" // what tests play against
	"strings"
	"sync"
	"testing"

	"github.com/dop251/goja"
)

// bench is the script in an engine without a browser, and what its agent stands
// on: see testdata/bench.js.
type bench struct {
	t  *testing.T
	vm *goja.Runtime
}

//go:embed testdata/bench.js
var ground string

// programs are compiled once for all tests.
var programs = sync.OnceValue(func() []*goja.Program {
	return []*goja.Program{goja.MustCompile("phone.js", string(script), false), goja.MustCompile("bench.js", ground, false)}
})

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, vm: goja.New()}
	for _, p := range programs() {
		if _, err := b.vm.RunProgram(p); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// js runs a script, and what it has set going, until nothing is left but timers.
func (b *bench) js(code string) goja.Value {
	b.t.Helper()
	v, err := b.vm.RunString(code)
	if err != nil {
		b.t.Fatalf("%v, in %.200s", err, code)
	}
	return v
}

// call calls a function of the script with texts.
func (b *bench) call(function string, args ...any) goja.Value {
	b.t.Helper()
	values := make([]goja.Value, len(args))
	for i, a := range args {
		values[i] = b.vm.ToValue(a)
	}
	f, ok := goja.AssertFunction(b.js(function))
	if !ok {
		b.t.Fatalf("%s is no function", function)
	}
	v, err := f(goja.Undefined(), values...)
	if err != nil {
		b.t.Fatalf("%s: %v", function, err)
	}
	return v
}

func (b *bench) is(expression, want string) {
	b.t.Helper()
	if got := b.js(expression).String(); got != want {
		b.t.Errorf("%s is %q, want %q", expression, got, want)
	}
}

// wait lets time pass.
func (b *bench) wait(ms int) {
	b.t.Helper()
	until := b.js("bench.now").ToInteger() + int64(ms)
	for i := 0; b.call("tick", until).ToBoolean(); i++ {
		if i > 10000 {
			b.t.Fatal("the timers never end")
		}
	}
}

// open lets the newest socket's connection be made.
func (b *bench) open() {
	b.t.Helper()
	b.js("socket().onopen()")
}

// receive lets a message come.
func (b *bench) receive(text string) {
	b.t.Helper()
	b.call("(text) => socket().onmessage({ data: text })", text)
}

// message is what the script sent.
type message struct {
	start, body string
	fields      []string
}

func (m *message) all(name string) (values []string) {
	for _, f := range m.fields {
		if n, v, _ := strings.Cut(f, ": "); n == name {
			values = append(values, v)
		}
	}
	return values
}

func (m *message) get(name string) string {
	for _, v := range m.all(name) {
		return v
	}
	return ""
}

func (m *message) uri() string { return strings.Fields(m.start)[1] }

func (m *message) tag(name string) string {
	_, tag, _ := strings.Cut(m.get(name), ";tag=")
	return tag
}

func (b *bench) silent() {
	b.t.Helper()
	if left := b.js("bench.sent.length").ToInteger(); left != 0 {
		b.t.Errorf("it sent %s", b.js("bench.sent.join('\\n')"))
	}
}

// next is what was sent next, which must begin as said.
func (b *bench) next(start string) *message {
	b.t.Helper()
	v := b.js("bench.sent.shift()")
	if goja.IsUndefined(v) {
		b.t.Fatalf("nothing was sent, want %s", start)
	}
	head, body, ok := strings.Cut(v.String(), "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	m := &message{start: lines[0], fields: lines[1:], body: body}
	if !ok || !strings.HasPrefix(m.start, start) {
		b.t.Fatalf("it sent %q, want %s", v.String(), start)
	}
	return m
}

// reply writes a response to a request of the script's.
func reply(to *message, status, tag, body string, more ...string) string {
	lines := []string{"SIP/2.0 " + status}
	for _, f := range to.fields {
		switch n, _, _ := strings.Cut(f, ": "); n {
		case "To":
			if tag != "" && !strings.Contains(f, ";tag=") {
				f += ";tag=" + tag
			}
			lines = append(lines, f)
		case "Via", "From", "Call-ID", "CSeq":
			lines = append(lines, f)
		}
	}
	return finish(append(lines, more...), body)
}

func finish(lines []string, body string) string {
	if body != "" {
		lines = append(lines, "Content-Type: application/sdp")
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

// registered is an agent whose registration was answered without a challenge.
func registered(t *testing.T) *bench {
	t.Helper()
	b := newBench(t)
	b.register()
	b.receive(reply(b.next("REGISTER"), "200 OK", "r", "", "Contact: <sip:other@198.51.100.1>;expires=5, "+b.js("agent.contact").String()+";expires=100"))
	b.is("bench.results.register", "done")
	return b
}

func (b *bench) register() {
	b.t.Helper()
	b.js(`keep("register", agent.register({ user: "101", password: "secret", domain: "pbx.example.com", url: "wss://edge/ws", instance: "urn:uuid:1" }))`)
	b.open()
}
