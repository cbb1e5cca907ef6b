//! `runrig bench gateway` without the rest of `runrig`: quick to build while the gateway changes.

use std::net::SocketAddr;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if let [_, role, run, _, network, _, listen] = arguments.as_slice() {
        anyhow::ensure!((role.as_str(), run.as_str()) == ("gateway", "run"));
        return runtime.block_on(serve(network, listen.parse()?));
    }
    let rounds = arguments.get(1).and_then(|a| a.parse().ok()).unwrap_or(5);
    let found = runtime.block_on(bench::gateway(&std::env::current_exe()?, rounds))?;
    for figure in found.figures {
        let beside = figure
            .beside
            .map(|b| format!("{}: {:.1}, {:.2} of it", b.name, b.median, b.ratio));
        println!(
            "{}: {:.1} {} ({:.1} to {:.1}); {}",
            figure.name,
            figure.median,
            figure.unit,
            figure.spread.0,
            figure.spread.1,
            beside.unwrap_or_default()
        );
    }
    println!("{}", found.left_out.join("\n"));
    Ok(())
}

async fn serve(network: &str, listen: SocketAddr) -> anyhow::Result<()> {
    let config = gateway::Config {
        validators: vec![network.into()],
        registry: None,
        listen,
        publish: listen.ip(),
        domain: "localhost".into(),
        tls: None,
        data: None,
        key: None,
    };
    let kind = tokio::signal::unix::SignalKind::terminate();
    let mut terminate = tokio::signal::unix::signal(kind)?;
    let asked = Box::pin(async move {
        terminate.recv().await;
    });
    gateway::run(config, asked).await
}
