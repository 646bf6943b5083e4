package policy

import "container/list"

// recent keeps the values that were used last, at most max of them. One that
// keep tells to is not forgotten; of those there must be fewer than max.
type recent[K comparable, V any] struct {
	max   int
	keep  func(*V) bool // nil: none is kept
	byKey map[K]*list.Element
	order *list.List // of entry[K, V], longest unused in front
}

type entry[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](max int, keep func(*V) bool) *recent[K, V] {
	return &recent[K, V]{max: max, keep: keep, byKey: make(map[K]*list.Element), order: list.New()}
}

// find returns a value, or nil. It is not used by that.
func (t *recent[K, V]) find(key K) *V {
	if at := t.byKey[key]; at != nil {
		return &at.Value.(*entry[K, V]).value
	}
	return nil
}

// get returns a value, new if there was none.
func (t *recent[K, V]) get(key K) *V {
	if at := t.byKey[key]; at != nil {
		t.order.MoveToBack(at)
		return &at.Value.(*entry[K, V]).value
	}
	t.trim()
	e := &entry[K, V]{key: key}
	t.byKey[key] = t.order.PushBack(e)
	return &e.value
}

// trim makes room for one.
func (t *recent[K, V]) trim() {
	for range t.order.Len() {
		if len(t.byKey) < t.max {
			return
		}
		front := t.order.Front()
		e := front.Value.(*entry[K, V])
		if t.keep != nil && t.keep(&e.value) {
			t.order.MoveToBack(front)
			continue
		}
		t.order.Remove(front)
		delete(t.byKey, e.key)
	}
}

func (t *recent[K, V]) remove(key K) {
	if at := t.byKey[key]; at != nil {
		t.order.Remove(at)
		delete(t.byKey, key)
	}
}

func (t *recent[K, V]) len() int { return len(t.byKey) }
