package admin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Kind is how a metric moves.
type Kind uint8

// A Counter only grows; a Gauge goes up and down.
const (
	Counter Kind = iota
	Gauge
)

// Metric describes one metric. Its name is given without "sallyport_".
type Metric struct {
	Name   string
	Help   string
	Kind   Kind
	Labels []string // names
}

// Sample is one value of a metric at one moment.
type Sample struct {
	Metric *Metric
	Labels []string // values, as many as the metric has names
	Value  float64
}

// Source gives samples at each scrape. It must be safe for concurrent use and
// must not block.
type Source func(emit func(Sample))

// collector turns sources into Prometheus metrics. It describes nothing ahead
// of time (an unchecked collector), so that packages may count by reasons that
// only show in operation.
type collector struct{ sources []Source }

func (c collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, source := range c.sources {
		source(func(s Sample) {
			desc := prometheus.NewDesc("sallyport_"+s.Metric.Name, s.Metric.Help, s.Metric.Labels, nil)
			kind := prometheus.CounterValue
			if s.Metric.Kind == Gauge {
				kind = prometheus.GaugeValue
			}
			m, err := prometheus.NewConstMetric(desc, kind, s.Value, s.Labels...)
			if err != nil {
				m = prometheus.NewInvalidMetric(desc, err)
			}
			out <- m
		})
	}
}

// metricsHandler serves the sources, and what Go and the kernel say of the
// process: go_goroutines, process_open_fds, process_resident_memory_bytes.
func metricsHandler(sources []Source) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collector{sources},
	)
	// One metric at fault must not hide the others from an alert.
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
}
