package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// devtools asks a browser for things, as the DevTools protocol and WebDriver
// BiDi both have it: in JSON, whose answers bear the question's number, and
// whose events bear none.
type devtools struct {
	out    func(text []byte) error // sends a message
	event  func(method string, params json.RawMessage)
	closed chan struct{} // when the browser has closed its end

	mu      sync.Mutex // guards what follows, and calls of out
	id      int
	waiting map[int]chan devtoolsMessage
}

type devtoolsMessage struct {
	ID      int             `json:"id"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   json.RawMessage `json:"error"`   // BiDi: its kind alone
	Message string          `json:"message"` // BiDi: of the error
}

// newDevtools takes messages from in until that fails. event is called for
// each event, on the reader's goroutine.
func newDevtools(in func() ([]byte, error), out func([]byte) error, event func(method string, params json.RawMessage)) *devtools {
	d := &devtools{out: out, event: event, closed: make(chan struct{}), waiting: make(map[int]chan devtoolsMessage)}
	go d.read(in) // ends with the browser; close waits for it
	return d
}

func (d *devtools) read(in func() ([]byte, error)) {
	defer close(d.closed)
	for {
		text, err := in()
		if err != nil {
			return
		}
		var m devtoolsMessage
		if json.Unmarshal(text, &m) != nil {
			continue
		}
		if m.ID == 0 {
			d.event(m.Method, m.Params)
			continue
		}
		d.mu.Lock()
		answer := d.waiting[m.ID]
		delete(d.waiting, m.ID)
		d.mu.Unlock()
		if answer != nil {
			answer <- m
		}
	}
}

// call asks for something and reads the result, if that is wanted. The session
// is that of a tab in the DevTools protocol, or none.
func (d *devtools) call(session, method string, params, result any) error {
	if params == nil {
		params = struct{}{}
	}
	answer := make(chan devtoolsMessage, 1)
	d.mu.Lock()
	d.id++
	d.waiting[d.id] = answer
	text, err := json.Marshal(struct {
		ID      int    `json:"id"`
		Method  string `json:"method"`
		Params  any    `json:"params"`
		Session string `json:"sessionId,omitempty"`
	}{d.id, method, params, session})
	if err == nil {
		err = d.out(text)
	}
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("ask the browser for %s: %w", method, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("ask the browser for %s: %s %s", method, m.Error, m.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-d.closed:
		return fmt.Errorf("ask the browser for %s: %w", method, errors.New("it has ended"))
	case <-time.After(90 * time.Second):
		return fmt.Errorf("ask the browser for %s: no answer", method)
	}
}
