//! Print placement decisions per second; sizes of fleets as arguments.

fn main() {
    let mut sizes: Vec<usize> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000];
    }
    for size in sizes {
        for f in bench::scheduler(&[size]) {
            println!(
                "{:>8} hosts, {:>9} replicas: {:>7} decisions/s, p50 {:?}, p99 {:?}, {}.{:02} hosts looked at, {} of {} refused",
                f.hosts,
                f.running,
                f.per_second,
                f.p50,
                f.p99,
                f.probes_centi / 100,
                f.probes_centi % 100,
                f.refused,
                f.decisions,
            );
        }
    }
}
