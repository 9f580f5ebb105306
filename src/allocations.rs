//! Counts the allocations of a thread, so that a test can show that a loop makes none for a
//! message, and how much is kept.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(size: i64) {
    // A thread that is ending has no counter any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + u64::from(size > 0)));
    let _ = HELD.try_with(|held| held.set(held.get() + size));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(-(layout.size() as i64));
        note(size as i64);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Allocations and reallocations of the calling thread so far.
pub fn count() -> u64 {
    COUNT.with(Cell::get)
}

/// Bytes that the calling thread has allocated and not given back; what it frees for others counts
/// too.
pub fn held() -> i64 {
    HELD.with(Cell::get)
}

#[test]
fn an_allocation_is_counted() {
    let before = count();
    let text = std::hint::black_box(String::from("counted"));
    assert_eq!((count() - before, text.len()), (1, 7));
}
