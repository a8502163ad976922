"""Two pages."""

from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


def counts(_request):
    from .models import Mark

    kinds = Mark.objects.values_list("kind", flat=True)
    return JsonResponse({kind: list(kinds).count(kind) for kind in set(kinds)})


@csrf_exempt
def ask(request):
    from .tasks import mark

    mark.delay(request.POST["kind"])
    return JsonResponse({"asked": True})


urlpatterns = [path("", counts), path("ask", ask)]
