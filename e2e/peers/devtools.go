package peers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// devtools speaks the DevTools protocol with a Chromium by a pair of pipes:
// JSON messages, each ended by a zero byte.
type devtools struct {
	w      *os.File
	event  func(method string, params json.RawMessage)
	closed chan struct{} // when the browser has closed its end

	mu      sync.Mutex // guards what follows, and w
	id      int
	waiting map[int]chan devtoolsMessage
}

type devtoolsMessage struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// newDevtools reads from r until the browser closes it. event is called for
// each event, on the reader's goroutine.
func newDevtools(r, w *os.File, event func(method string, params json.RawMessage)) *devtools {
	d := &devtools{w: w, event: event, closed: make(chan struct{}), waiting: make(map[int]chan devtoolsMessage)}
	go d.read(r) // ends with the browser; close waits for it
	return d
}

func (d *devtools) read(r *os.File) {
	defer close(d.closed)
	defer r.Close()
	for in := bufio.NewReader(r); ; {
		text, err := in.ReadBytes(0)
		if err != nil {
			return
		}
		var m devtoolsMessage
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
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

// close ends the conversation, after the browser did.
func (d *devtools) close() {
	<-d.closed
	_ = d.w.Close()
}

// call asks for something and reads the result. The session is that of a tab,
// or none for the browser's own.
func (d *devtools) call(session, method string, params, result any) error {
	answer := make(chan devtoolsMessage, 1)
	d.mu.Lock()
	d.id++
	id := d.id
	d.waiting[id] = answer
	text, err := json.Marshal(map[string]any{"id": id, "method": method, "params": params, "sessionId": session})
	if session == "" {
		text, err = json.Marshal(map[string]any{"id": id, "method": method, "params": params})
	}
	if err == nil {
		_, err = d.w.Write(append(text, 0))
	}
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("ask the browser for %s: %w", method, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("ask the browser for %s: %s", method, m.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-d.closed:
		return fmt.Errorf("ask the browser for %s: %w", method, errors.New("it has ended"))
	case <-time.After(20 * time.Second):
		return fmt.Errorf("ask the browser for %s: no answer", method)
	}
}
