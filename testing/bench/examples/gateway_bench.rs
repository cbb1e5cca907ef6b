//! Print requests per second and CPU per request of the gateway, HAProxy and nginx; seconds,
//! rounds and a `runrig` to measure instead of this build as arguments.

use std::net::SocketAddr;

use bench::GatewayOptions;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, _, network, _, listen] = arguments.as_slice() {
        return serve(network, listen.parse()?);
    }
    let seconds = arguments.get(1).and_then(|a| a.parse().ok()).unwrap_or(5);
    let gateway = match arguments.get(3) {
        Some(runrig) => vec![runrig.into(), "gateway".into(), "run".into()],
        None => vec![std::env::current_exe()?.into()],
    };
    let options = GatewayOptions {
        gateway,
        seconds,
        rounds: arguments.get(2).and_then(|a| a.parse().ok()).unwrap_or(3),
        connections: 64,
        sizes: vec![1 << 10, 1 << 20],
    };
    for f in bench::gateway(&options)? {
        println!(
            "{:>8} {:>8} B: {:>8.0} requests/s, {:>6.1} us CPU/request, p50 {}, p99 {}, {} failed",
            f.proxy, f.body_bytes, f.requests_per_s, f.cpu_us_per_request, f.p50, f.p99, f.failed
        );
    }
    Ok(())
}

fn serve(network: &str, listen: SocketAddr) -> Result<(), Box<dyn std::error::Error>> {
    let config = gateway::Config {
        validators: vec![network.into()],
        registry: None,
        listen,
        publish: listen.ip(),
        domain: "localhost".into(),
        tls: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut terminate = runtime.block_on(async {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    })?;
    runtime.block_on(gateway::run(config, async move {
        terminate.recv().await;
    }))?;
    Ok(())
}
