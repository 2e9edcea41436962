//! Runs kernels on the host: the threads of a block are fibers that take turns, the blocks come one after the other.
#include "host.h"
#include <csetjmp>
#include <cstdlib>
#include <ucontext.h>

Index threadIdx, blockIdx, blockDim, gridDim;

namespace {

const unsigned MOST_THREADS = 1024, STACK = 128 * 1024;

struct Fiber {
    jmp_buf place;
    ucontext_t start;
    bool made, done;
    unsigned turn; // which set of places its next exchange uses
};

/// A barrier: how many have arrived, and how often it has opened.
struct Barrier { unsigned arrived, opened; };

Fiber fibers[MOST_THREADS];
Barrier block, warps[MOST_THREADS / 32];
char places[MOST_THREADS / 32][2][32][64];
jmp_buf scheduler;
ucontext_t outside;
Call kernel;
const void *arguments;
unsigned running;
bool reversed; // the last thread comes first

void yield() {
    unsigned self = running;
    if (!_setjmp(fibers[self].place)) _longjmp(scheduler, 1);
    threadIdx = {self, 0, 0};
}

void fiber_main(int self) {
    for (;;) {
        threadIdx = {(unsigned)self, 0, 0};
        kernel(arguments);
        fibers[self].done = true;
        yield();
    }
}

void make(unsigned i) {
    getcontext(&fibers[i].start);
    fibers[i].start.uc_stack.ss_sp = malloc(STACK);
    fibers[i].start.uc_stack.ss_size = STACK;
    makecontext(&fibers[i].start, (void (*)())fiber_main, 1, (int)i);
    fibers[i].made = true;
}

void resume(unsigned i) {
    running = i;
    if (_setjmp(scheduler)) return;
    if (fibers[i].made) _longjmp(fibers[i].place, 1);
    make(i);
    swapcontext(&outside, &fibers[i].start);
}

void wait(Barrier &barrier, unsigned threads) {
    unsigned opened = barrier.opened;
    if (++barrier.arrived == threads) {
        barrier.arrived = 0;
        barrier.opened++;
    } else {
        while (barrier.opened == opened) yield();
    }
}

void run_block() {
    for (unsigned i = 0; i < blockDim.x; i++) fibers[i].done = false;
    for (bool busy = true; busy;) {
        busy = false;
        for (unsigned turn = 0; turn < blockDim.x; turn++) {
            unsigned i = reversed ? blockDim.x - 1 - turn : turn;
            if (fibers[i].done) continue;
            resume(i);
            busy = true;
        }
    }
}

} // namespace

void sync_block() { wait(block, blockDim.x); }
void sync_warp() { wait(warps[threadIdx.x / 32], 32); }
char (*warp_places())[64] { return places[threadIdx.x / 32][fibers[threadIdx.x].turn++ & 1]; }

extern "C" void lacuna_emulated_reverse(int on) { reversed = on; }

/// Runs a kernel of a table. 0: done; 1: no kernel of this name; 2: arguments of another size; 3: a block that cannot run.
extern "C" int lacuna_emulated_launch(const Table *table, const char *name, const unsigned *grid, unsigned threads, const void *args,
                                      unsigned size) {
    if (threads == 0 || threads > MOST_THREADS || threads % 32) return 3;
    for (unsigned i = 0; i < table->count; i++) {
        if (strcmp(table->entries[i].name, name)) continue;
        if (table->entries[i].size != size) return 2;
        kernel = table->entries[i].call;
        arguments = args;
        gridDim = {grid[0], grid[1], grid[2]};
        blockDim = {threads, 1, 1};
        for (blockIdx.z = 0; blockIdx.z < grid[2]; blockIdx.z++)
            for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
                for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++) run_block();
        return 0;
    }
    return 1;
}
