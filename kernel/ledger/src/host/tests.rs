use types::{Amount, Resources};

use super::Call;
use crate::world::{World, deploy, id, project, registration, service};
use crate::{Params, RejectKind};

fn registered(world: &mut World, change: impl FnOnce(&mut Call)) -> Result<(), RejectKind> {
    let mut call = registration(10, 2000);
    change(&mut call);
    world.ask(10, crate::Call::Host(call)).map_err(|r| r.kind)
}

fn with_address(text: &str) -> impl FnOnce(&mut Call) {
    let text = text.to_string();
    move |call| {
        if let Call::Register { address, .. } = call {
            *address = text;
        }
    }
}

fn with_capacity(change: impl FnOnce(&mut Resources)) -> impl FnOnce(&mut Call) {
    move |call| {
        if let Call::Register { offer, .. } = call {
            change(&mut offer.capacity);
        }
    }
}

#[test]
fn an_address_is_an_ip_or_name_and_a_port_and_nothing_else() {
    let mut world = World::new(Params::dev());
    for bad in [
        "",
        "http://",
        "https://10.0.0.1:80",
        "http://10.0.0.1",
        "http://10.0.0.1:0",
        "http://10.0.0.1:99999",
        "http://10.0.0.1:80/path",
        "http://user@10.0.0.1:80",
        "http://10.0.0.1:80?x",
        "http://[::1:80",
    ] {
        let refused = registered(&mut world, with_address(bad));
        assert_eq!(refused, Err(RejectKind::Invalid), "{bad}");
    }
    for good in [
        "http://10.0.0.1:80",
        "http://host-1.example:7801",
        "http://[::1]:80",
    ] {
        assert_eq!(registered(&mut world, with_address(good)), Ok(()), "{good}");
    }
}

#[test]
fn an_offer_is_bounded() {
    let mut world = World::new(Params::dev());
    let changes: [fn(&mut Resources); 4] = [
        |c| c.cpu_millis = u32::MAX,
        |c| c.memory_bytes = u64::MAX,
        |c| c.disk_bytes = u64::MAX,
        |c| c.memory_bytes = 0,
    ];
    for change in changes {
        let refused = registered(&mut world, with_capacity(change));
        assert_eq!(refused, Err(RejectKind::Invalid));
    }
    let refused = registered(&mut world, |call| {
        if let Call::Register { offer, .. } = call {
            offer.architecture = "x\n86".into();
        }
    });
    assert_eq!(refused, Err(RejectKind::Invalid));
}

/// A machine whose disk has filled up must be able to come back.
#[test]
fn capacity_never_falls_below_what_is_reserved() {
    let mut world = World::new(Params::dev());
    world.host(10, 2000);
    world
        .ask(1, deploy(project("p", &[("a", service(1500, 1))])))
        .expect("deployed");
    assert_eq!(
        registered(&mut world, with_capacity(|c| c.cpu_millis = 1000)),
        Ok(())
    );
    let host = world.state.hosts.get(&id(10)).expect("there");
    assert_eq!(host.offer.capacity.cpu_millis, 1500);
    assert_eq!(host.free.cpu_millis, 0);
    assert_eq!(
        registered(&mut world, |call| {
            if let Call::Register { owner, .. } = call {
                *owner = id(3);
            }
        }),
        Err(RejectKind::Conflict)
    );
}

#[test]
fn the_owner_of_one_host_may_cordon_it() {
    let mut world = World::new(Params::dev());
    let mut call = registration(10, 2000);
    if let Call::Register { owner, .. } = &mut call {
        *owner = id(3);
    }
    world.ask(10, crate::Call::Host(call)).expect("registered");
    let cordon = || crate::Call::Host(Call::Cordon { cordoned: true });
    assert_eq!(
        world.ask(4, cordon()).expect_err("stranger").kind,
        RejectKind::NotFound
    );
    world.ask(3, cordon()).expect("owner");
    assert!(world.state.hosts.get(&id(10)).expect("there").cordoned);
    let refused = world.ask(1, deploy(project("p", &[("a", service(10, 1))])));
    assert_eq!(refused.expect_err("cordoned").kind, RejectKind::NoHost);
    world
        .ask(3, crate::Call::Host(Call::Leave))
        .expect("nothing is placed");
    assert!(world.state.hosts.is_empty());
    assert_eq!(world.state.account(&id(3)).spendable, Amount::ZERO);
}
