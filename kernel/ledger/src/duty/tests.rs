use super::{Done, Seen};
use crate::world::{World, key};
use crate::{BlockEnv, Params};

#[test]
fn what_blocks_show_is_counted_by_epoch() {
    let mut world = World::new(Params {
        epoch_blocks: 16,
        ..Params::dev()
    });
    let (a, b) = (key(1).public(), key(2).public());
    for height in 1..=16u64 {
        let env = BlockEnv {
            height,
            time_ms: world.state.time_ms() + 1,
            seen: Seen {
                leader: Some(if height % 4 == 0 { b } else { a }),
                dealt: height == 9,
                stated: [(a, true), (b, height != 3)].into(),
            },
            ..BlockEnv::default()
        };
        let none: &[Vec<u8>] = &[];
        let executed = world.state.execute(env, none, &|_| false);
        world.state = executed.expect("conserved").state;
    }
    let first = &world.state.duties.get(&0).expect("kept").by;
    let done = |led, stated, off, dealt| Done {
        led,
        stated,
        off,
        dealt,
    };
    assert_eq!(first.get(&a), Some(&done(12, 15, 0, true)));
    assert_eq!(first.get(&b), Some(&done(3, 14, 1, false)));
    let second = &world.state.duties.get(&1).expect("begun").by;
    assert_eq!(second.get(&b), Some(&done(1, 1, 0, false)));
}
