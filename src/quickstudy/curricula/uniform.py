"""The plain curriculum: every outer step draws fresh, independent training tasks."""

from jaxtyping import PRNGKeyArray

from quickstudy.core import AbstractCurriculum, AbstractTask, AbstractTaskDistribution, Records, sample_tasks


class Uniform(AbstractCurriculum):
    """Draw training tasks from one distribution and learn nothing from how they went."""

    tasks: AbstractTaskDistribution

    def init(self, key: PRNGKeyArray) -> None:
        return None

    def propose(self, state: None, key: PRNGKeyArray, n: int) -> tuple[None, AbstractTask, None]:
        return None, sample_tasks(self.tasks, key, "train", n), None

    def credit(self, state: None, ticket: None, tasks: AbstractTask, records: Records) -> None:
        return None
