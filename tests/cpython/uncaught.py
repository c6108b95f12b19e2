# exit: 1
# A program that dies of an uncaught exception in a traced loop: its traceback, line for line.
class Account:
    def __init__(self, amount):
        self.amount = amount

    def take(self, n):
        if n > self.amount:
            raise ValueError(f"only {self.amount} left, {n} wanted")
        self.amount -= n


def spend(account, steps):
    for i in range(steps):
        account.take(
            i
        )


def main():
    try:
        spend(Account(10**11), 10**7)
    except ValueError as error:
        raise RuntimeError("it went wrong") from error


print("begin")
main()
