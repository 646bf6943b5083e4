package flow

import (
	"context"
	"log/slog"
	"strings"

	"github.com/emiago/sipgo/sip"
)

// tracer writes one line for each message at level debug: enough to draw the
// ladder of a call, and nothing that could be a secret.
type tracer struct{ log *slog.Logger }

func (t *tracer) message(f *Flow, dir string, m sip.Message) {
	if !t.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	attrs := []any{"side", f.side.String(), "dir", dir, "peer", f.remote.String(), "start", startLine(m)}
	if cseq := m.CSeq(); cseq != nil {
		attrs = append(attrs, "cseq", cseq.Value())
	}
	if id := m.CallID(); id != nil {
		attrs = append(attrs, "call_id", id.Value())
	}
	t.log.Debug("sip", attrs...)
}

func startLine(m sip.Message) string {
	var b strings.Builder
	switch m := m.(type) {
	case *sip.Request:
		m.StartLineWrite(&b)
	case *sip.Response:
		m.StartLineWrite(&b)
	}
	return b.String()
}
