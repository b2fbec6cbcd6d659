//! What the report ran on, and what was measured.

use crate::process::cores;
use crate::servers::{NGINX, Servers};

/// A list of the machine and the servers' versions.
pub fn describe(servers: &Servers, rounds: u32, seconds: f64) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let model = model.trim_start_matches(|c: char| c.is_whitespace() || c == ':');
    let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let memory = rustix::system::sysinfo();
    let gib = (memory.totalram * u64::from(memory.mem_unit)) as f64 / f64::from(1 << 30);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    let system = rustix::system::uname();
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC");
    let pinned = match cores() {
        Ok((server, load)) if server != load => format!("servers on core {server}, the load on core {load}"),
        _ => "**one core alone**: servers and load shared it, so that every figure is low".to_owned(),
    };
    let mut text = format!(
        "- {date}; {rounds} rounds, {seconds} s for each turn\n- {model}, {processors} processors, {gib:.0} GiB; {pinned}\n\
         - {} {} on {}; load average {load} when the report began\n",
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
        system.machine().to_string_lossy(),
    );
    for server in &servers.running {
        text += &format!("- {}: {}\n", server.name, server.version);
    }
    if let Some(web) = &servers.web {
        text += &format!("- {NGINX}: {}\n", web.version);
    }
    for (name, why) in &servers.absent {
        text += &format!("- {name}: **absent**: {why}\n");
    }
    text
}
