// Package succession has one process of a program follow another without a pause.
//
// The one that runs starts its own binary, as it is on the disk now, with its own
// arguments, and leaves it descriptors by name. The heir takes those that it needs,
// says that it is ready, and waits to be told that these are its. Until then
// nothing has changed, and an heir that fails has told why: the one that runs goes on.
// From then on both run, the one before until it has nothing left to do. Words can be
// passed either way, and either sees when the other is gone.
//
// # Who owns what
//
// Start owns a goroutine that waits for the heir, and ends with it; and one that reads
// its words. Descriptors that were left and not taken are closed by Ready.
package succession
