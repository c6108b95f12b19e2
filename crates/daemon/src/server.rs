//! The daemon's main loop: one thread that only waits and hands on.
//!
//! It accepts targets (a handshake runs in a thread of its own, so that one peer which
//! says nothing keeps nobody waiting), answers commands, and hears of the end of
//! processes. It ends when there is nobody left to serve.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use redmagic_engine::{Params, warm};

use crate::attach;
use crate::client::{self, Answer, Command};
use crate::explain;
use crate::handshake::{self, HandshakeError};
use crate::profile;
use crate::recorder::Symbols;
use crate::sample::{self, Sampler};
use crate::session::{Ending, Session, lock};
use crate::status::{self, Stats};
use crate::target::Refusal;
use crate::watch::Watch;

/// How long a peer may take for each message of the handshake, in seconds.
const HANDSHAKE_SECONDS: i64 = 2;

/// What a daemon is started with.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Tunables.
    pub params: Params,
    /// Where to write statistics about the main target when its session ends.
    pub stats: Option<PathBuf>,
    /// A folder for recordings.
    pub save_recordings: Option<PathBuf>,
    /// Whether the statistics are to say what the time went into.
    pub profile: bool,
}

/// What happens elsewhere and concerns the main loop.
enum Event {
    /// A handshake is over.
    Session(Result<Arc<Session>, HandshakeError>),
    /// A session is over.
    Ended(Arc<Session>, Ending),
    /// The process that the daemon came to by itself.
    Attached(Arc<Session>),
}

/// Sends events and wakes the main loop.
#[derive(Clone)]
struct Notifier {
    events: Sender<Event>,
    wake: Arc<std::io::PipeWriter>,
}

impl Notifier {
    fn notify(&self, event: Event) {
        // The receiver lives as long as the main loop, and a full pipe wakes it as well.
        let _ = self.events.send(event);
        let _ = (&*self.wake).write(&[1]);
    }
}

/// The main loop's state.
pub struct Server {
    settings: Settings,
    watch: Watch,
    /// Where targets greet; `None` for a daemon that serves one attached process.
    greeting: Option<OwnedFd>,
    /// After how much processor time the process below is attached to; `None` when it greets.
    after: Option<Duration>,
    /// Whether there was ever a session.
    had_session: bool,
    /// The process that the daemon was started for.
    main: Option<(i32, OwnedFd)>,
    sessions: BTreeMap<i32, Served>,
    /// Handshakes under way.
    greeted: usize,
    notifier: Notifier,
    events: Receiver<Event>,
    woken: std::io::PipeReader,
}

struct Served {
    session: Arc<Session>,
    commands: Option<UnixListener>,
    /// Whether samples are taken for a client only.
    sampled_for_client: bool,
    /// Clients that wait for its end.
    detaching: Vec<UnixStream>,
}

/// What became readable.
enum Ready {
    Woken,
    Greeting,
    Main,
    Command(i32),
    Gone(i32),
}

impl Server {
    /// A server without sessions. Forks the watcher, so it must be made while the process
    /// has one thread.
    ///
    /// # Errors
    /// Those of pipe and fork.
    pub fn new(settings: Settings) -> std::io::Result<Server> {
        let watch = Watch::start()?;
        let (woken, wake) = std::io::pipe()?;
        let (sender, events) = unbounded();
        Ok(Server {
            settings,
            watch,
            greeting: None,
            after: None,
            had_session: false,
            main: None,
            sessions: BTreeMap::new(),
            greeted: 0,
            notifier: Notifier {
                events: sender,
                wake: Arc::new(wake),
            },
            events,
            woken,
        })
    }

    /// Makes in the background what the first trace would have to wait for.
    pub fn warm_up(&self) {
        if let Err(error) = std::thread::Builder::new().name("warm".into()).spawn(warm::up) {
            tracing::info!(%error, "the first trace will take a little longer");
        }
    }

    /// Serves `main` and its children: they greet at `socket`.
    pub fn serve_process(&mut self, main: i32, pidfd: OwnedFd, socket: OwnedFd) {
        self.main = Some((main, pidfd));
        self.greeting = Some(socket);
    }

    /// Attaches to the process that the daemon was started for when it has used that much processor time. When the program
    /// cannot be attached to (a shell that is yet to become the interpreter), it is tried again later.
    pub fn come_after(&mut self, after: Duration) {
        let Some((pid, _)) = self.main else { return };
        let (notifier, settings) = (self.notifier.clone(), self.settings.clone());
        self.after = Some(after);
        let spawned = std::thread::Builder::new().name("later".into()).spawn(move || {
            let mut wanted = after;
            // Half-way: a program that is over by then should not share its processors with this.
            if !wait_for(pid, wanted - after / 2) {
                return;
            }
            warm::up();
            let symbols = Symbols::read(pid).unwrap_or_default();
            loop {
                if !wait_for(pid, wanted) {
                    return;
                }
                match attach::attach(pid, &settings.params, settings.save_recordings.clone()) {
                    Ok(session) => {
                        *lock(&session.symbols) = symbols;
                        return notifier.notify(Event::Attached(session));
                    }
                    // Other programs of it may have sessions; it is tried less and less often.
                    Err(error) => tracing::info!(%error, pid, "no session yet"),
                }
                wanted *= 2;
            }
        });
        match spawned {
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no thread to wait for the program"),
        }
    }

    /// Serves a process that was attached to.
    pub fn serve_session(&mut self, session: Arc<Session>) {
        self.start(session);
    }

    /// Serves until there is nobody left.
    ///
    /// # Errors
    /// An unexpected errno of poll.
    pub fn run(mut self) -> std::io::Result<()> {
        while self.main.is_some() || !self.sessions.is_empty() || self.greeted > 0 {
            for ready in self.wait()? {
                match ready {
                    Ready::Woken => {
                        let mut bytes = [0; 64];
                        let _ = (&self.woken).read(&mut bytes);
                    }
                    Ready::Greeting => self.greet(),
                    Ready::Main => self.main = None,
                    Ready::Command(pid) => self.command(pid),
                    Ready::Gone(pid) => {
                        if let Some(served) = self.sessions.get(&pid) {
                            served.session.end(Ending::Exited);
                        }
                    }
                }
            }
            while let Ok(event) = self.events.try_recv() {
                match event {
                    Event::Session(result) => {
                        self.greeted -= 1;
                        match result {
                            Ok(session) => self.start(session),
                            Err(error) if is_no_matter(&error) => tracing::info!(%error, "no session"),
                            Err(error) => tracing::warn!(%error, "no session"),
                        }
                    }
                    Event::Attached(session) => self.start(session),
                    Event::Ended(session, ending) => {
                        self.ended(&session, &ending);
                        // Another program in the same process does not greet either.
                        if let (Ending::Replaced, Some(after), Some((main, _))) = (&ending, self.after, &self.main)
                            && *main == session.pid
                        {
                            self.come_after(after);
                        }
                    }
                }
            }
        }
        if let Some(path) = self.settings.stats.as_ref().filter(|_| !self.had_session) {
            write_no_session(path);
        }
        Ok(())
    }

    fn wait(&self) -> std::io::Result<Vec<Ready>> {
        let mut fds: Vec<(BorrowedFd<'_>, Ready)> = vec![(self.woken.as_fd(), Ready::Woken)];
        if let Some(socket) = &self.greeting {
            fds.push((socket.as_fd(), Ready::Greeting));
        }
        if let Some((_, pidfd)) = &self.main {
            fds.push((pidfd.as_fd(), Ready::Main));
        }
        for (pid, served) in &self.sessions {
            if let Some(commands) = &served.commands {
                fds.push((commands.as_fd(), Ready::Command(*pid)));
            }
            // A session that is ending need not be told again.
            if served.session.ending().is_none() {
                fds.push((served.session.pidfd.as_fd(), Ready::Gone(*pid)));
            }
        }
        let mut polled: Vec<PollFd<'_>> = fds.iter().map(|(fd, _)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        Ok(fds
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| *ready)
            .map(|((_, what), _)| what)
            .collect())
    }

    /// Accepts a target and shakes hands in a thread of its own.
    fn greet(&mut self) {
        let Some(socket) = self.greeting.as_ref().and_then(|socket| attach::accept(socket).ok()) else {
            return;
        };
        let timeout = TimeVal::new(HANDSHAKE_SECONDS, 0);
        if setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).is_err()
            || setsockopt(&socket, sockopt::SendTimeout, &timeout).is_err()
        {
            return;
        }
        let (notifier, settings) = (self.notifier.clone(), self.settings.clone());
        let spawned = std::thread::Builder::new().name("greet".into()).spawn(move || {
            let result = match handshake::serve(&socket, &settings.params, settings.save_recordings.clone()) {
                // The target did not wait that long (it waits 10 ms), or mapped something meanwhile where the regions were
                // to be; it runs plain now, and can be attached to like any other.
                Err(
                    HandshakeError::Socket(_)
                    | HandshakeError::NotMapped {
                        errno: Errno::EEXIST, ..
                    },
                ) => handshake::peer(&socket)
                    .and_then(|pid| attach::attach(pid, &settings.params, settings.save_recordings)),
                other => other,
            };
            // How a process that is over was found to be over is of no interest.
            let result = result.map_err(|error| match handshake::peer(&socket) {
                Ok(pid) if attach::is_over(pid) => Refusal::NoProcess(pid).into(),
                _ => error,
            });
            notifier.notify(Event::Session(result));
        });
        match spawned {
            Ok(_) => self.greeted += 1,
            Err(error) => tracing::warn!(%error, "no thread for a handshake"),
        }
    }

    fn start(&mut self, session: Arc<Session>) {
        self.had_session = true;
        let pid = session.pid;
        if let Some(old) = self.sessions.get_mut(&pid) {
            // The process runs another program now.
            old.commands = None;
            old.session.end(Ending::Replaced);
        }
        let commands = match client::listen(pid) {
            Ok(listener) => Some(listener),
            Err(error) => {
                session.message(format!("commands for process {pid} cannot be received: {error}"));
                None
            }
        };
        tracing::info!(pid, layout = ?session.layout, "session");
        if self.settings.profile {
            lock(&session.engine).note_purposes();
        }
        let notifier = self.notifier.clone();
        Arc::clone(&session).run(self.watch.clone(), move |session, ending| {
            notifier.notify(Event::Ended(Arc::clone(session), ending));
        });
        // The target asks already, and opening a perf event may take longer than it waits.
        if self.settings.stats.is_some() {
            let frequency = if self.settings.profile {
                sample::OFTEN
            } else {
                sample::RARELY
            };
            match Sampler::start(pid, self.settings.profile, frequency) {
                Ok(sampler) => *lock(&session.sampler) = Some(sampler),
                Err(error) => tracing::info!(%error, "no samples of where the time goes"),
            }
        }
        self.sessions.insert(
            pid,
            Served {
                session,
                commands,
                sampled_for_client: false,
                detaching: Vec::new(),
            },
        );
    }

    fn ended(&mut self, session: &Arc<Session>, ending: &Ending) {
        if let Some(path) = &self.settings.stats {
            write_stats(session, ending, path);
        }
        // A replaced session is no longer in the map.
        if self
            .sessions
            .get(&session.pid)
            .is_some_and(|served| Arc::ptr_eq(&served.session, session))
            && let Some(served) = self.sessions.remove(&session.pid)
        {
            drop(served.commands);
            for mut client in served.detaching {
                client::write(&mut client, &Answer::Detached);
            }
        }
    }

    fn command(&mut self, pid: i32) {
        let Some(served) = self.sessions.get_mut(&pid) else {
            return;
        };
        let Some(Ok((mut stream, _))) = served.commands.as_ref().map(UnixListener::accept) else {
            return;
        };
        let own = nix::unistd::geteuid().as_raw();
        let uid = nix::sys::socket::getsockopt(&stream, sockopt::PeerCredentials).map(|c| c.uid());
        if !uid.is_ok_and(|uid| uid == own || uid == 0) {
            return client::write(
                &mut stream,
                &Answer::Error("this session belongs to another user".into()),
            );
        }
        match client::read(&mut stream) {
            Ok(Command::Status) => {
                client::write(&mut stream, &Answer::Status(Box::new(status::status(&served.session))));
            }
            Ok(Command::Traces) => client::write(&mut stream, &Answer::Traces(status::traces(&served.session))),
            Ok(Command::Sample) => {
                let mut sampler = lock(&served.session.sampler);
                if sampler.is_none() {
                    match Sampler::start(pid, false, sample::OFTEN) {
                        Ok(started) => {
                            *sampler = Some(started);
                            served.sampled_for_client = true;
                        }
                        Err(error) => tracing::info!(%error, "no samples of where the time goes"),
                    }
                }
                client::write(&mut stream, &Answer::Sampling(sampler.is_some()));
            }
            Ok(Command::Explain) => {
                let explanation = explain::explain(&served.session);
                if std::mem::take(&mut served.sampled_for_client) {
                    *lock(&served.session.sampler) = None;
                }
                client::write(&mut stream, &Answer::Explained(Box::new(explanation)));
            }
            Ok(Command::Detach) => {
                served.session.end(Ending::Detached);
                served.detaching.push(stream);
            }
            Err(answer) => client::write(&mut stream, &answer),
        }
    }
}

/// A child that dies as soon as it is forked is nothing to warn of, nor is a program that was late for its greeting and has been
/// attached to meanwhile.
fn is_no_matter(error: &HandshakeError) -> bool {
    matches!(
        error,
        HandshakeError::Refused(Refusal::NoProcess(_) | Refusal::Attached(_))
    )
}

/// Processor time that a process has used; `None` when there is no such process.
fn used(pid: i32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; utime and stime are the 12th and 13th fields after it.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let ticks: u64 = fields.nth(11)?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    // USER_HZ is 100 on every Linux; the scheduler's own account of the first thread is finer.
    let coarse = Duration::from_millis(ticks * 10);
    let fine = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok();
    let fine = fine.and_then(|text| text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos));
    Some(fine.map_or(coarse, |fine| fine.max(coarse)))
}

/// Waits until a process has used that much; false when it ends before.
fn wait_for(pid: i32, wanted: Duration) -> bool {
    let mut pause = Duration::from_millis(2);
    let mut last = Duration::ZERO;
    loop {
        match used(pid) {
            None => return false,
            Some(used) if used >= wanted => return true,
            Some(used) => {
                // Who sleeps is looked at less and less often.
                pause = if used == last {
                    (pause * 2).min(Duration::from_millis(100))
                } else {
                    (wanted - used).clamp(Duration::from_millis(1), Duration::from_millis(20))
                };
                last = used;
            }
        }
        std::thread::sleep(pause);
    }
}

/// What a daemon has used: processor time in seconds, and its largest resident set in KiB.
fn own_usage() -> (f64, u64) {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    usage.map_or((0.0, 0), |u| {
        (seconds(u.user_time()) + seconds(u.system_time()), u.max_rss() as u64)
    })
}

/// Statistics of a program that was over before it had a session.
pub fn write_no_session(path: &std::path::Path) {
    let (cpu, rss) = own_usage();
    let text = serde_json::json!({ "session": false, "daemon_cpu_s": cpu, "daemon_peak_rss_kb": rss });
    if let Err(error) = std::fs::write(path, text.to_string()) {
        tracing::warn!(%error, path = %path.display(), "statistics could not be written");
    }
}

/// Writes statistics; the file appears complete or not at all.
fn write_stats(session: &Session, ending: &Ending, path: &std::path::Path) {
    let (daemon_cpu_s, daemon_peak_rss_kb) = own_usage();
    let pauses_us = lock(&session.recorders).pauses.all().to_vec();
    let stats = Stats {
        pauses_us,
        status: status::status(session),
        explanation: explain::explain(session),
        profile: profile::profile(session),
        daemon_cpu_s,
        daemon_peak_rss_kb,
        ending: ending.to_string(),
    };
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let written = serde_json::to_vec_pretty(&stats)
        .map_err(std::io::Error::from)
        .and_then(|bytes| std::fs::write(&temporary, bytes))
        .and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        tracing::warn!(%error, path = %path.display(), "statistics could not be written");
        let _ = std::fs::remove_file(&temporary);
    }
}
