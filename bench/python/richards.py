"""The kernel of an operating system, simulated: tasks, packets and queues."""
import sys

IDLE, WORKER, HANDLER_A, HANDLER_B, DEVICE_A, DEVICE_B = range(6)
DEVICE, WORK = 0, 1
SIZE = 4


class Packet:
    def __init__(self, link, ident, kind):
        self.link, self.ident, self.kind = link, ident, kind
        self.datum = 0
        self.data = [0] * SIZE

    def append_to(self, queue):
        self.link = None
        if queue is None:
            return self
        p = queue
        while p.link is not None:
            p = p.link
        p.link = self
        return queue


class Task:
    def __init__(self, scheduler, ident, priority, queue, running=False):
        self.scheduler, self.ident, self.priority, self.queue = scheduler, ident, priority, queue
        self.pending = queue is not None
        self.waiting = not running
        self.held = False
        scheduler.add(self)

    def blocked(self):
        return self.held or (not self.pending and self.waiting)

    def run(self):
        packet = None
        if self.waiting and self.pending:
            packet = self.queue
            self.queue = packet.link
            self.waiting = False
            self.pending = self.queue is not None
        return self.step(packet)

    def check_priority(self, other, packet):
        if self.queue is None:
            self.queue = packet
            self.pending = True
            if self.priority > other.priority:
                return self
        else:
            packet.append_to(self.queue)
        return other


class Idle(Task):
    def __init__(self, scheduler, count):
        self.control, self.count = 1, count
        Task.__init__(self, scheduler, IDLE, 0, None, running=True)

    def step(self, packet):
        self.count -= 1
        if self.count == 0:
            return self.scheduler.hold()
        if self.control & 1 == 0:
            self.control //= 2
            return self.scheduler.release(DEVICE_A)
        self.control = self.control // 2 ^ 0xD008
        return self.scheduler.release(DEVICE_B)


class Worker(Task):
    def __init__(self, scheduler, queue):
        self.target, self.letter = HANDLER_A, 0
        Task.__init__(self, scheduler, WORKER, 1000, queue)

    def step(self, packet):
        if packet is None:
            return self.scheduler.wait()
        self.target = HANDLER_B if self.target == HANDLER_A else HANDLER_A
        packet.ident = self.target
        packet.datum = 0
        for i in range(SIZE):
            self.letter = self.letter + 1 if self.letter < 26 else 1
            packet.data[i] = 64 + self.letter
        return self.scheduler.send(packet)


class Handler(Task):
    def __init__(self, scheduler, ident, priority, queue):
        self.work = self.devices = None
        Task.__init__(self, scheduler, ident, priority, queue)

    def step(self, packet):
        if packet is not None:
            if packet.kind == WORK:
                self.work = packet.append_to(self.work)
            else:
                self.devices = packet.append_to(self.devices)
        work = self.work
        if work is not None:
            count = work.datum
            if count >= SIZE:
                self.work = work.link
                return self.scheduler.send(work)
            device = self.devices
            if device is not None:
                self.devices = device.link
                device.datum = work.data[count]
                work.datum = count + 1
                return self.scheduler.send(device)
        return self.scheduler.wait()


class Device(Task):
    def __init__(self, scheduler, ident, priority):
        self.packet = None
        Task.__init__(self, scheduler, ident, priority, None)

    def step(self, packet):
        if packet is None:
            if self.packet is None:
                return self.scheduler.wait()
            packet, self.packet = self.packet, None
            return self.scheduler.send(packet)
        self.packet = packet
        return self.scheduler.hold()


class Scheduler:
    def __init__(self):
        self.table = {}
        self.order = []
        self.current = None
        self.sent = self.holds = 0

    def add(self, task):
        self.table[task.ident] = task
        self.order.insert(0, task)
        task.next = None
        for task, following in zip(self.order, self.order[1:]):
            task.next = following

    def run(self):
        task = self.order[0]
        while task is not None:
            if task.blocked():
                task = task.next
            else:
                self.current = task
                task = task.run()

    def hold(self):
        self.holds += 1
        self.current.held = True
        return self.current.next

    def wait(self):
        self.current.waiting = True
        return self.current

    def release(self, ident):
        task = self.table[ident]
        task.held = False
        return task if task.priority > self.current.priority else self.current

    def send(self, packet):
        task = self.table[packet.ident]
        self.sent += 1
        packet.link = None
        packet.ident = self.current.ident
        return task.check_priority(self.current, packet)


def simulate(count):
    s = Scheduler()
    Idle(s, count)
    queue = Packet(Packet(None, WORKER, WORK), WORKER, WORK)
    Worker(s, queue)
    for ident, priority, device in ((HANDLER_A, 2000, DEVICE_A), (HANDLER_B, 3000, DEVICE_B)):
        queue = Packet(Packet(Packet(None, device, DEVICE), device, DEVICE), device, DEVICE)
        Handler(s, ident, priority, queue)
    Device(s, DEVICE_A, 4000)
    Device(s, DEVICE_B, 5000)
    s.run()
    return s.sent, s.holds


for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 60):
    result = simulate(10000)
print(*result)
