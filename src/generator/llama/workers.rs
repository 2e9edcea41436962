//! The decode loop: each worker runs its own context on jobs from the shared queue until all requests are served.

use super::guard;
use super::in_place::{Ask, Found, InPlace};
use super::tap::Tap;
use crate::generator::prefix::{PrefixTree, Token};
use crate::generator::queue::Queue;
use crate::generator::request::{GenerateError, Sink};
use crate::generator::sampler::Room;
use crate::generator::scheduler::{CacheEdit, Job, Limits, Output, Schedule, SeqId, Step, schedule};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

/// What a request does after reading logits.
pub(super) enum Next<T> {
    /// It waits for more logits of its prompt.
    More,
    /// It needs all logits at this token.
    Whole,
    /// It continues with this token.
    Token(Token),
    /// It is finished, with this answer.
    Done(T),
}

/// What was computed at a token.
pub(super) struct Outputs<'l> {
    pub(super) logits: Logits<'l>,
    /// (layers, hidden), of the layers that were asked for.
    pub(super) states: Vec<Vec<f32>>,
}

/// The logits at a token.
pub(super) enum Logits<'l> {
    /// (n_vocab); empty if no request reads them.
    Whole(&'l [f32]),
    /// What the request has asked for.
    Found(Found),
}

impl Logits<'_> {
    /// All of them.
    pub(super) fn whole(&self) -> &[f32] {
        match self {
            Logits::Whole(logits) => logits,
            Logits::Found(Found::Whole(logits)) => logits,
            Logits::Found(_) => &[],
        }
    }
}

/// A request in a slot.
pub(super) trait Reader: Send {
    type Answer: Send;

    /// Reads what was computed at its last token so far.
    fn read(&mut self, outputs: Outputs, room: &mut Room) -> Result<Next<Self::Answer>, GenerateError>;

    /// What of the logits suffices for its next reading but `ahead`; where logits are not copied from a GPU, it gets that alone.
    fn ask(&mut self, _ahead: usize) -> Ask {
        Ask::Whole
    }

    /// Tells an answer how many tokens were computed since the one before.
    fn charge(_answer: &mut Self::Answer, _computed: u32) {}
}

/// Counters of a model, shared by its workers.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) requests: AtomicU64,
    /// Tokens of all prompts.
    pub(super) prompt_tokens: AtomicU64,
    /// Prompt tokens that went through `llama_decode`.
    pub(super) prefilled: AtomicU64,
    /// New tokens that went through `llama_decode`.
    pub(super) decoded: AtomicU64,
    /// Calls of `llama_decode`.
    pub(super) steps: AtomicU64,
    pub(super) microseconds: AtomicU64,
    /// Contexts of the last call.
    pub(super) contexts: AtomicU64,
}

/// What the workers share. Jobs are sorted by prompt.
pub(super) struct Work<'a, S> {
    pub(super) jobs: &'a [Job],
    pub(super) tree: &'a PrefixTree,
    pub(super) limits: Limits,
    pub(super) n_vocab: usize,
    /// The threads that read the slots' logits beside a GPU, whose workers are few; without them a worker reads its own.
    pub(super) pool: Option<&'a rayon::ThreadPool>,
    /// Creates the reader of a job when the job gets a slot.
    pub(super) start: S,
    pub(super) counters: &'a Counters,
}

/// A context, and what reads its hidden states or its logits, if anything does. The context comes first: it is dropped first.
pub(super) struct Tapped<'m> {
    pub(super) context: LlamaContext<'m>,
    pub(super) tap: Option<Tap>,
    /// Its logits, where they are not copied.
    pub(super) in_place: Option<InPlace>,
}

/// Serves all jobs, one worker per context; answers go to the sink on this thread. The first error stops every worker before its next
/// step.
pub(super) fn run<R: Reader, S: Fn(usize) -> R + Sync>(
    contexts: Vec<Tapped<'_>>,
    work: &Work<'_, S>,
    sink: Sink<R::Answer>,
) -> Result<(), GenerateError> {
    let queue = &Queue::new(work.jobs.len(), contexts.len());
    let cancelled = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (answers, received) = mpsc::channel();
        for (me, context) in contexts.into_iter().enumerate() {
            let answers = answers.clone();
            let serve = move || {
                let worker = || Worker::new(context, work).serve(|| queue.claim(me), cancelled, &answers);
                let outcome = catch_unwind(AssertUnwindSafe(worker)).unwrap_or_else(|panic| Err(describe_panic(&*panic)));
                if let Err(error) = outcome {
                    // If the receiver is gone, another error has already been returned.
                    let _ = answers.send(Err(error));
                }
            };
            let spawned = std::thread::Builder::new().name(format!("decode-{me}")).spawn_scoped(scope, serve);
            if let Err(error) = spawned {
                cancelled.store(true, Ordering::Relaxed);
                return Err(GenerateError::Decode(format!("cannot start a thread: {error}")));
            }
        }
        drop(answers);
        deliver(received, cancelled, sink)
    })
}

/// Passes answers to the sink until the workers are done; after the first error it only waits for them.
fn deliver<T>(received: Receiver<Result<T, GenerateError>>, cancelled: &AtomicBool, sink: Sink<T>) -> Result<(), GenerateError> {
    let mut outcome = Ok(());
    for answer in received {
        if outcome.is_ok() {
            outcome = answer.and_then(|answer| sink(answer).map_err(GenerateError::Consumer));
            cancelled.store(outcome.is_err(), Ordering::Relaxed);
        }
    }
    outcome
}

fn describe_panic(panic: &(dyn std::any::Any + Send)) -> GenerateError {
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    GenerateError::Decode(format!("a worker stopped unexpectedly: {}", message.unwrap_or("no message")))
}

/// The place of every row of the batch among those with logits, in the order of the batch.
fn places(step: &Step) -> Vec<usize> {
    let computed = step.batch.iter().scan(0, |computed, input| {
        *computed += usize::from(input.logits);
        Some(*computed)
    });
    computed.map(|computed| computed.saturating_sub(1)).collect()
}

/// What the request in a slot does next.
type Turn<R> = (SeqId, Next<<R as Reader>::Answer>);

/// What a request does after the last of its outputs, or the first that it needs.
fn read_in_turn<R: Reader>(reader: &mut R, outputs: Vec<Outputs>, room: &mut Room) -> Result<Next<R::Answer>, GenerateError> {
    let mut next = Next::More;
    for outputs in outputs {
        next = reader.read(outputs, room)?;
        if !matches!(next, Next::More) {
            break;
        }
    }
    Ok(next)
}

struct Worker<'a, R, S> {
    tapped: Tapped<'a>,
    batch: LlamaBatch<'static>,
    scheduler: Box<dyn Schedule + 'a>,
    work: &'a Work<'a, S>,
    /// Indexed by slot.
    readers: Vec<Option<R>>,
    room: Room,
    /// Tokens that no answer has been charged with yet.
    computed: u32,
}

impl<'a, R: Reader, S: Fn(usize) -> R> Worker<'a, R, S> {
    fn new(tapped: Tapped<'a>, work: &'a Work<'a, S>) -> Self {
        Worker {
            tapped,
            batch: LlamaBatch::new(work.limits.n_batch, 1),
            scheduler: schedule(work.limits, work.jobs, work.tree),
            work,
            readers: (0..work.limits.slots).map(|_| None).collect(),
            room: Room::default(),
            computed: 0,
        }
    }

    /// Runs steps until the queue and all slots are empty, or a worker has failed.
    fn serve(
        mut self,
        claim: impl Fn() -> Option<usize>,
        cancelled: &AtomicBool,
        answers: &Sender<Result<R::Answer, GenerateError>>,
    ) -> Result<(), GenerateError> {
        let mut waiting = None;
        while !cancelled.load(Ordering::Relaxed) {
            self.refill(&claim, &mut waiting);
            let Some(step) = self.scheduler.step() else { break };
            self.decode(&step)?;
            for mut answer in self.read(&step)? {
                R::charge(&mut answer, std::mem::take(&mut self.computed));
                if answers.send(Ok(answer)).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Fills free slots from the queue; a job that does not fit yet is kept in `waiting`.
    fn refill(&mut self, claim: impl Fn() -> Option<usize>, waiting: &mut Option<usize>) {
        while self.scheduler.wants_job() {
            let Some(job) = waiting.take().or_else(&claim) else { break };
            let Some(slot) = self.scheduler.admit(job) else {
                *waiting = Some(job);
                break;
            };
            self.readers[slot] = Some((self.work.start)(job));
        }
    }

    /// Applies the cache edits and decodes the batch.
    fn decode(&mut self, step: &Step) -> Result<(), GenerateError> {
        let fail = |what: &str, error: &dyn std::fmt::Display| GenerateError::Decode(format!("{what}: {error}"));
        guard::check_step(step, &self.work.limits, self.work.n_vocab).map_err(|what| fail("invalid step", &what))?;
        let Tapped { context, tap, .. } = &mut self.tapped;
        for &edit in &step.edits {
            let edited = match edit {
                CacheEdit::Clear { seq } => context.kv_cache_seq_rm(seq as i32, None, None),
                CacheEdit::Copy { from, to } => context.kv_cache_seq_cp(from as i32, to as i32, None, None),
                CacheEdit::Trim { seq, from } => context.kv_cache_seq_rm(seq as i32, Some(from as u32), None),
            };
            edited.map_err(|error| fail("the KV cache cannot be edited", &error))?;
        }
        self.batch.clear();
        for input in &step.batch {
            let added = self.batch.add(LlamaToken(input.token), input.pos as i32, &[input.seq as i32], input.logits);
            added.map_err(|error| fail("the batch is full", &error))?;
        }
        tap.iter_mut().for_each(|tap| tap.begin(step));
        context.decode(&mut self.batch).map_err(|error| fail("llama.cpp refused a batch", &error))?;
        tap.iter_mut().try_for_each(Tap::end).map_err(|reason| fail("hidden states cannot be read", &reason))?;
        self.computed += step.batch.len() as u32;
        self.work.counters.steps.fetch_add(1, Ordering::Relaxed);
        self.work.counters.prefilled.fetch_add(step.prefill as u64, Ordering::Relaxed);
        self.work.counters.decoded.fetch_add((step.batch.len() - step.prefill - step.padding) as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Lets the requests read what was computed for them; returns the answers of those that are finished, in the order of the batch.
    fn read(&mut self, step: &Step) -> Result<Vec<R::Answer>, GenerateError> {
        let mut answers = Vec::new();
        for (slot, next) in self.next(step)? {
            match next {
                Next::More | Next::Whole => {}
                Next::Token(token) => self.scheduler.extend(slot, token),
                Next::Done(answer) => {
                    self.scheduler.finish(slot);
                    self.readers[slot] = None;
                    answers.push(answer);
                }
            }
        }
        Ok(answers)
    }

    /// What each request of the step does next.
    fn next(&mut self, step: &Step) -> Result<Vec<Turn<R>>, GenerateError> {
        if self.tapped.in_place.is_some() { self.next_in_place(step) } else { self.next_of_copied(step) }
    }

    /// The same where llama.cpp has copied the logits.
    fn next_of_copied(&mut self, step: &Step) -> Result<Vec<Turn<R>>, GenerateError> {
        let Tapped { context, tap, .. } = &mut self.tapped;
        let cut = tap.as_ref().is_some_and(Tap::cuts);
        let mut outputs_of = |row: usize| Outputs {
            logits: Logits::Whole(if cut { &[] } else { context.get_logits_ith(row as i32) }),
            states: tap.as_mut().map(|tap| tap.states(row)).unwrap_or_default(),
        };
        let mut readers: Vec<Option<&mut R>> = self.readers.iter_mut().map(Option::as_mut).collect();
        // The outputs of a slot are neighbours.
        let slots = step.outputs.chunk_by(|a, b| a.slot == b.slot);
        let work = slots.filter_map(|outputs| {
            let reader = readers[outputs[0].slot].take()?;
            Some((outputs[0].slot, reader, outputs.iter().map(|output| outputs_of(output.row)).collect()))
        });
        let read =
            |room: &mut Room, (slot, reader, outputs): (SeqId, &mut R, Vec<Outputs>)| Ok((slot, read_in_turn(reader, outputs, room)?));
        match self.work.pool {
            Some(pool) => {
                let work: Vec<_> = work.collect();
                pool.install(|| work.into_par_iter().map_init(Room::default, read).collect())
            }
            None => work.map(|work| read(&mut self.room, work)).collect(),
        }
    }

    /// The same where the logits stay on the GPU: requests say what they need of them, and those for which it does not suffice get all.
    fn next_in_place(&mut self, step: &Step) -> Result<Vec<Turn<R>>, GenerateError> {
        let fail = |reason: String| GenerateError::Decode(format!("logits cannot be read on the GPU: {reason}"));
        let Tapped { context, in_place: Some(in_place), .. } = &mut self.tapped else { return Ok(Vec::new()) };
        let Some(first) = step.outputs.first() else { return Ok(Vec::new()) };
        // Asking for any logits waits for the batch.
        let _ = context.get_logits_ith(first.row as i32);
        let places = places(step);
        let rows = step.batch.iter().filter(|input| input.logits).count();
        let slots: Vec<&[Output]> =
            step.outputs.chunk_by(|a, b| a.slot == b.slot).filter(|own| self.readers[own[0].slot].is_some()).collect();
        let mut asks = Vec::with_capacity(step.outputs.len());
        for own in &slots {
            let Some(reader) = &mut self.readers[own[0].slot] else { continue };
            asks.extend(own.iter().enumerate().map(|(ahead, output)| (places[output.row], reader.ask(ahead))));
        }
        let mut found = in_place.read(rows, &asks).map_err(fail)?.into_iter();
        let mut turns = Vec::with_capacity(slots.len());
        for own in slots {
            let Some(reader) = &mut self.readers[own[0].slot] else { continue };
            let mut next = Next::More;
            for (output, found) in own.iter().zip(found.by_ref().take(own.len()).collect::<Vec<_>>()) {
                if !matches!(next, Next::More) {
                    break;
                }
                let outputs = Outputs { logits: Logits::Found(found), states: Vec::new() };
                next = reader.read(outputs, &mut self.room)?;
                if matches!(next, Next::Whole) {
                    let row = in_place.row(rows, places[output.row]).map_err(fail)?;
                    next = reader.read(Outputs { logits: Logits::Whole(&row), states: Vec::new() }, &mut self.room)?;
                }
            }
            turns.push((own[0].slot, next));
        }
        Ok(turns)
    }
}
